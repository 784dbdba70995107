"""jitune train --config configs/sft.py --config.model.path=DIR --config.data.train=FILE --config.output_dir=OUT

Full fine-tuning of a Hugging Face checkpoint on instructions: every parameter, bfloat16 computation over
float32 weights, parameters and optimizer state split over all devices.
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.seq_len = 2048
    config.batch_size = 64  # rows of 2,048 tokens in one step
    config.microbatches = 1  # raise it where a step does not fit into memory
    config.epochs = 2.0
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-5
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_ratio = 0.03
    config.optimizer.b2 = 0.95
    config.mesh.fsdp = -1
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
