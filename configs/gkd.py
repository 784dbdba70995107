"""jitune train --config configs/gkd.py --config.model.path=DIR --config.data.train=FILE --config.output_dir=OUT

GKD, on-policy distillation (arXiv 2306.13649): half of the steps are on answers that the student samples itself, which
the teacher grades token by token. Give the teacher as --config.objective.teacher=DIR.
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.seq_len = 1024
    config.batch_size = 32  # rows of 1,024 tokens in one step
    config.epochs = 1.0
    config.data.packing = False  # a prompt a row: there is room for every answer
    config.objective.name = "distill"
    config.objective.divergence = "jsd"
    config.objective.jsd_beta = 0.5
    config.objective.on_policy = 0.5  # GKD's lambda
    config.objective.max_new_tokens = 128
    config.objective.sampling_temperature = 1.0
    config.optimizer.learning_rate = 1e-5
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_ratio = 0.03
    config.mesh.fsdp = -1
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
