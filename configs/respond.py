"""jitune data distill --config configs/respond.py --config.input=FILES --config.teacher.model=M --config.output_dir=OUT

A teacher's answers to prompts, filtered. The teacher is a folder with a model, or a name behind an endpoint:
config.teacher.base_url=http://localhost:8000/v1, with the key in the environment variable that config.teacher.key_env
names.

What a conversation ends with is answered anew. config.respond.n=4 draws four answers to each prompt; config.respond.
systems and personas, files or texts joined by "|", make answers and tasks more diverse. Refusals, repetition, rubbish
and answers that were cut are rejected with their reasons. To try a config, set config.limit=20.
"""

from jitune.construct.distill.config import defaults


def get_config():
    config = defaults()
    config.method = "respond"
    config.respond.n = 1
    config.respond.temperature = 0.7
    config.respond.max_tokens = 1024
    config.respond.filters = "empty,encoding,repetition,refusal"
    config.examples = 3  # of each reason, in the report
    return config
