"""jitune data distill --config configs/alpaca.py --config.input=SEEDS --config.output_dir=OUT

Instruction data out of a few seed tasks, by Alpaca's way with the published parameters: a strong model writes twenty
tasks a call, each with its input and output. Seeds are rows of instruction and instances, as Self-Instruct's 175, and
config.teacher.model names who writes.

config.alpaca.policy=english takes the released code's filters to the letter, which refuse other scripts;
config.alpaca.language says what language the tasks are in. For speed, raise config.alpaca.requests: so many calls are
made at a time.
"""

from jitune.construct.distill.config import defaults


def get_config():
    config = defaults()
    config.method = "alpaca"
    config.alpaca.count = 1000  # instructions to make
    config.alpaca.policy = "unicode"
    config.alpaca.threshold = 0.7  # of ROUGE-L with seeds and pool
    config.alpaca.requests = 5
    return config
