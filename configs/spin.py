"""jitune improve --config configs/spin.py --config.model.path=DIR --config.prompts=FILE --config.output_dir=OUT

A tuned model that learns by DPO to prefer the answers of its data to its own (self-play, SPIN).

FILE is what the model was tuned on, prompts with answers. Each round starts from the model of the round before, which
is its reference too, and trains on its pairs and those of the round before. Where a verifier is named, --config.heldout
measures it.
"""

from jitune.construct.improve.config import defaults


def get_config():
    config = defaults()
    config.method = "spin"
    config.rounds = 3
    config.sampling.max_tokens = 256
    config.generator.batch_size = 64
    config.train.seq_len = 2048
    config.train.batch_size = 32  # rows of 2,048 tokens, each of several pairs
    config.train.epochs = 2.0
    config.train.objective.beta = 0.1
    config.train.optimizer.learning_rate = 5e-7
    config.train.optimizer.warmup_ratio = 0.1
    return config
