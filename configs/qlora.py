"""jitune train --config configs/qlora.py --config.model.path=DIR --config.data.train=FILE --config.output_dir=OUT

QLoRA, LoRA on all linear layers over a base frozen in NF4. Llama 8B: 5.7 GB, embeddings and head in bfloat16.
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.seq_len = 2048
    config.batch_size = 16  # rows of 2,048 tokens in one step
    config.epochs = 2.0
    config.transform.name = "lora"
    config.transform.quantize = "nf4"
    config.transform.rank = 16
    config.transform.alpha = 32.0
    config.optimizer.learning_rate = 2e-4  # about ten times that of full tuning
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_ratio = 0.03
    config.mesh.fsdp = -1
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
