"""jitune train --config configs/simpo.py --config.model.path=DIR --config.data.train=FILE --config.output_dir=OUT

SimPO (arXiv 2405.14734): pairs of answers by their log-probability a token, with a margin and without a reference.
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.seq_len = 2048  # a pair has room in one row
    config.batch_size = 128  # rows; short pairs share one
    config.epochs = 1.0
    config.objective.name = "simpo"
    config.objective.beta = 2.0
    config.objective.gamma = 0.5  # the margin is gamma x beta
    config.optimizer.learning_rate = 8e-7
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_ratio = 0.1
    config.mesh.fsdp = -1
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
