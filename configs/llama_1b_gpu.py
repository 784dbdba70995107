"""jitune train --config configs/llama_1b_gpu.py --config.data.train=FILE --config.output_dir=OUT

Full fine-tuning of Llama 3.2 1B on one GPU of 80 GB: float32 weights, gradients and AdamW's state take 16 bytes a
parameter, 18.4 GiB. With activations a step needs 35.9 GiB there by

    jitune plan --config configs/llama_1b_gpu.py --family llama --preset 1b --hardware h100-sxm
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.path = "meta-llama/Llama-3.2-1B"
    config.model.dtype = "bfloat16"
    config.model.remat = "dots_no_batch"  # keeps the products of weights: little is computed twice
    config.data.chat_template = "alpaca"  # a base model has no chat tokens of its own
    config.seq_len = 2048
    config.batch_size = 64  # rows of 2,048 tokens, several examples in each
    config.microbatches = 16  # 4 rows at a time
    config.loss_chunk = 4096
    config.epochs = 2.0
    config.optimizer.learning_rate = 1e-5
    config.optimizer.schedule = "linear"
    config.optimizer.warmup_ratio = 0.03
    config.optimizer.b2 = 0.95
    config.mesh.fsdp = 1
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
