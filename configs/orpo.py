"""jitune train --config configs/orpo.py --config.model.path=DIR --config.data.train=FILE --config.output_dir=OUT

ORPO (arXiv 2403.07691): cross-entropy of the wanted answers and their odds against the unwanted ones in one step, from
a base model, without a reference.
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.seq_len = 2048  # a pair has room in one row
    config.batch_size = 64  # rows; short pairs share one
    config.epochs = 3.0
    config.objective.name = "orpo"
    config.objective.beta = 0.1  # the paper's lambda
    config.optimizer.learning_rate = 8e-6
    config.optimizer.schedule = "linear"
    config.optimizer.warmup_ratio = 0.1
    config.mesh.fsdp = -1
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
