"""jitune train --config configs/kto.py --config.model.path=DIR --config.data.train=FILE --config.output_dir=OUT

KTO (arXiv 2402.01306): answers that are labelled wanted or not, without pairs; pairs serve as two answers each.
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.seq_len = 2048
    config.batch_size = 32  # rows; the more answers share a step, the better its point of reference
    config.epochs = 1.0
    config.objective.name = "kto"
    config.objective.beta = 0.1
    config.objective.wanted_weight = 1.0  # weight x number of one kind: 1 to 4/3 times that of the other
    config.objective.unwanted_weight = 1.0
    config.optimizer.learning_rate = 5e-7
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_ratio = 0.1
    config.mesh.fsdp = -1
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
