"""jitune train --config configs/dpo.py --config.model.path=DIR --config.data.train=FILE --config.output_dir=OUT

DPO (arXiv 2305.18290) on pairs of answers, every parameter trained, from a tuned model. The reference is that model;
what it says of the pairs is stored before the first step. With --config.transform.name=lora it costs nothing.
"""

from jitune.config import defaults


def get_config():
    config = defaults()
    config.model.dtype = "bfloat16"
    config.model.remat = "full"
    config.seq_len = 2048  # a pair has room in one row
    config.batch_size = 64  # rows; short pairs share one
    config.epochs = 1.0
    config.objective.name = "dpo"
    config.objective.beta = 0.1
    config.objective.loss = "sigmoid"
    config.objective.nll_weight = 0.0  # where chosen_logprob falls too far: 0.1, say
    config.optimizer.learning_rate = 5e-7
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_ratio = 0.1
    config.mesh.fsdp = -1
    config.checkpoint_every = 200
    config.eval_every = 200  # where config.data.eval names a file
    return config
