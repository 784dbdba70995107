"""jitune train --config configs/llama_8b_8gpu.py --config.data.train=FILE --config.output_dir=OUT

Full fine-tuning of Llama 3.1 8B on 8 GPUs of 80 GB. Weights, gradients and AdamW's state lie in eighths on the
GPUs; each takes one row at a time. Learning rate, schedule, epochs and length are those of Tulu 3 (arXiv 2411.15124).
A GPU needs 30.5 GiB by

    jitune plan --config configs/llama_8b_8gpu.py --family llama --preset 8b --hardware h100-sxm
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.path = "meta-llama/Llama-3.1-8B"
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.data.chat_template = "alpaca"  # a base model has no chat tokens of its own
    config.seq_len = 4096
    config.batch_size = 64  # rows of 4,096 tokens, several examples in each
    config.microbatches = 8  # one row a GPU at a time
    config.loss_chunk = 8192  # 1,024 tokens a GPU
    config.epochs = 2.0
    config.optimizer.learning_rate = 5e-6
    config.optimizer.schedule = "linear"
    config.optimizer.warmup_ratio = 0.03
    config.optimizer.b2 = 0.95
    config.mesh.fsdp = 8
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
