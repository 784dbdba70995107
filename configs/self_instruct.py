"""jitune data distill --config configs/self_instruct.py --config.input=SEEDS --config.output_dir=OUT

Instruction data out of a few seed tasks, by Self-Instruct with the published parameters. Seeds are rows of instruction
and instances, as Self-Instruct's 175, and
config.teacher.model names who writes. A base model, or an endpoint with config.teacher.api=completion, continues lists
of tasks; a chat model is asked in messages (config.self_instruct.form=chat).

config.self_instruct.policy=english takes the released code's filters to the letter, which refuse other scripts. For
speed, raise config.self_instruct.requests: so many lists are continued at a time.
"""

from jitune.construct.distill.config import defaults


def get_config():
    config = defaults()
    config.method = "self_instruct"
    config.self_instruct.count = 1000  # instructions to make
    config.self_instruct.policy = "unicode"
    config.self_instruct.threshold = 0.7  # of ROUGE-L with seeds and pool
    config.self_instruct.requests = 20
    return config
