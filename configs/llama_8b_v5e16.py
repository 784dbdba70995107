"""jitune train --config configs/llama_8b_v5e16.py --config.data.train=FILE --config.output_dir=OUT --distributed

Full fine-tuning of Llama 3.1 8B on a TPU v5e-16: run it on each of the slice's hosts, with data and output on
storage that all of them see. Weights and AdamW's state in float32 take 6 of a chip's 16 GB, so that the rest must be
small: layers are computed again, each layer's products lie over 4 chips (mesh.tensor), and a row is computed at a
time by 4 chips together. A chip needs 12.3 GiB by

    jitune plan --config configs/llama_8b_v5e16.py --family llama --preset 8b --hardware tpu-v5e
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.path = "meta-llama/Llama-3.1-8B"
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.data.chat_template = "alpaca"  # a base model has no chat tokens of its own
    config.seq_len = 2048
    config.batch_size = 64  # rows of 2,048 tokens, several examples in each
    config.microbatches = 16  # 4 rows at a time, each by 4 chips
    config.loss_chunk = 4096
    config.epochs = 2.0
    config.optimizer.learning_rate = 5e-6
    config.optimizer.schedule = "linear"
    config.optimizer.warmup_ratio = 0.03
    config.optimizer.b2 = 0.95
    config.mesh.fsdp = 4
    config.mesh.tensor = 4
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
