"""jitune train --config configs/llama_70b_v5p128.py --config.data.train=FILE --config.output_dir=OUT --distributed

Full fine-tuning of Llama 3.1 70B on a TPU v5p-128, which is 64 chips: run it on each of the slice's hosts, with
data and output on storage that all of them see. Learning rate, schedule, epochs and length are those of Tulu 3
(arXiv 2411.15124). A chip needs 48.9 of its 95 GiB by

    jitune plan --config configs/llama_70b_v5p128.py --family llama --preset 70b --hardware tpu-v5p
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.path = "meta-llama/Llama-3.1-70B"
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.data.chat_template = "alpaca"  # a base model has no chat tokens of its own
    config.seq_len = 4096
    config.batch_size = 128  # rows of 4,096 tokens, several examples in each
    config.microbatches = 2  # one row a chip at a time
    config.loss_chunk = 65536  # 1,024 tokens a chip
    config.epochs = 2.0
    config.optimizer.learning_rate = 2e-6
    config.optimizer.schedule = "linear"
    config.optimizer.warmup_ratio = 0.03
    config.optimizer.b2 = 0.95
    config.mesh.fsdp = 64
    config.checkpoint_every = 100
    config.eval_every = 100  # where config.data.eval names a file
    return config
