"""jitune data distill --config evol_instruct --config.input=FILES --config.teacher.model=M --config.output_dir=OUT

Evol-Instruct (WizardLM): a teacher makes instructions harder or rarer, four rounds, and answers what came out. Answers
of the input are not looked at. The teacher is a folder with a model, or a name behind an endpoint:
config.teacher.base_url=http://localhost:8000/v1, with the key in the environment variable that config.teacher.key_env
names; one that only continues texts needs config.evol_instruct.form=raw.

Each instruction costs up to three calls a round: to evolve it, to judge whether that gained anything, and to answer.
To try a config, set config.limit=20 and config.evol_instruct.rounds=1. The paper trains on the first instructions too:
name their file beside kept.jsonl in what comes next, `jitune data curate`.
"""

from jitune.construct.distill.config import defaults


def get_config():
    config = defaults()
    config.method = "evol_instruct"
    config.evol_instruct.rounds = 4
    config.evol_instruct.operations = "constraints,deepen,concretise,reasoning,complicate,breadth"
    config.evol_instruct.temperature = 1.0
    config.evol_instruct.top_p = 0.9
    config.evol_instruct.eliminate = True  # what gained nothing, says sorry, says nothing, or repeats the question
    config.evol_instruct.filters = "empty,encoding,repetition,refusal"
    return config
