"""jitune improve --config constitutional --config.model.path=DIR --config.prompts=FILE --config.output_dir=OUT

A model that criticises its own answers by principles, writes them anew, and is tuned on that (constitutional).

--config.principles=FILE names your own: sentences, or objects with name, critique and revision. A model that follows no
instructions yet cannot do it; tune it first.
"""

from jitune.construct.improve.config import defaults


def get_config():
    config = defaults()
    config.method = "constitutional"
    config.rounds = 1
    config.revisions = 2  # each by another principle
    config.sampling.max_tokens = 512
    config.generator.batch_size = 64
    config.curate.stages = "repetition,exact"
    config.train.seq_len = 1024
    config.train.batch_size = 64
    return config
