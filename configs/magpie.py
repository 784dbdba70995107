"""jitune data distill --config configs/magpie.py --config.teacher.model=MODEL --config.output_dir=OUT

Magpie: an aligned model writes instructions where its chat template has the user's, and answers them. There is no
input, or one whose system messages are drawn from in turn. The teacher is a folder with a model; behind an endpoint it
must continue plain texts (config.teacher.api=completion), and what its template writes comes from a tokenizer
(config.magpie.tokenizer=FOLDER) or as texts, here of ChatML:

    config.magpie.pre_query = "<|im_start|>user\\n"
    config.magpie.post_query = "<|im_end|>\\n<|im_start|>assistant\\n"
    config.magpie.between = "<|im_end|>\\n<|im_start|>user\\n"
    config.magpie.stops = "<|im_end|>|||<|im_start|>"

The teacher grades its instructions itself; config.magpie.rater=second has config.second.model do it.
"""

from jitune.construct.distill.config import defaults


def get_config():
    config = defaults()
    config.method = "magpie"
    config.magpie.count = 1000  # instructions that are sampled
    config.magpie.turns = 1
    config.magpie.one_line = True  # as published; False lets instructions have several lines
    config.magpie.temperature = 1.0  # of instructions; answers are greedy
    config.magpie.top_p = 1.0
    config.magpie.qualities = "good,excellent"
    config.magpie.similarity = 0.8  # of word 5-grams, from which only the first of two is kept
    return config
