"""jitune improve --config self_rewarding --config.model.path=DIR --config.prompts=FILE --config.output_dir=OUT

A model that judges its own answers, and learns by DPO to prefer the best of four to the worst (self-rewarding).

Answers of the first round are judged again in every round: a judge that drifts stops the rounds (config.limits). With
--config.judge.model=MODEL@https://host/v1 another one judges.
"""

from jitune.construct.improve.config import defaults


def get_config():
    config = defaults()
    config.method = "self_rewarding"
    config.rounds = 2
    config.sampling.samples = 4
    config.judging.times = 3
    config.judging.anchors = 64
    config.generator.batch_size = 64
    config.train.seq_len = 2048
    config.train.batch_size = 16
    config.train.objective.beta = 0.1
    config.train.optimizer.learning_rate = 1e-6
    return config
