"""jitune improve --config configs/improve.py --config.model.path=DIR --config.prompts=FILE --config.output_dir=OUT

A model tuned on its own answers to problems whose answers can be checked: rejection sampling (RFT) on mathematics.

--config.method=star gives it the result as a hint where it missed, rest_em keeps up to ten right answers to a problem
and forgets them after the round, lmsi asks for no right answers and takes those that most samples lead to. What is
published of each (samples, temperature, start, pooling) holds where nothing else is said. Give --config.heldout=FILE:
without problems that no round learns from, nobody knows whether the model got better. A run that was killed goes on
with the same command.
"""

from jitune.construct.improve.config import defaults


def get_config():
    config = defaults()
    config.method = "rft"  # or star, rest_em, lmsi
    config.rounds = 2
    config.verifier.name = "math"  # or code, constraints, exact, module:function
    config.sampling.max_tokens = 512
    config.generator.batch_size = 64  # answers at once
    config.curate.stages = "repetition,exact"
    config.train.seq_len = 1024
    config.train.batch_size = 64
    config.train.epochs = 3.0
    config.export = "last"  # or best, by held-out accuracy
    return config
