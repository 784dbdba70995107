"""jitune train --config distill_logits --config.model.path=DIR --config.data.train=FILE --config.output_dir=OUT

Distillation by logits: a student learns a larger model's distribution at every token of the answers. Give the
teacher as --config.objective.teacher=DIR, which is run beside and must have the student's vocabulary, or what it
said before as --config.objective.store=DIR (`jitune data teacher`).
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.seq_len = 2048
    config.batch_size = 64  # rows of 2,048 tokens in one step
    config.epochs = 2.0
    config.objective.name = "distill"
    config.objective.divergence = "forward"  # covers all that the teacher says; reverse seeks its modes
    config.objective.temperature = 1.0
    config.objective.sft_weight = 0.5  # of the data's own tokens
    config.optimizer.learning_rate = 2e-5
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_ratio = 0.03
    config.optimizer.b2 = 0.95
    config.mesh.fsdp = -1
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
