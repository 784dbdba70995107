"""jitune data curate --config configs/curate.py --config.input=FILES --config.output_dir=OUT

What most instruction data needs before training: damage, empty answers, refusals and duplicates out, personal data
redacted, languages told. No model is asked. Stages run in order, the cheap ones first; each has a section of options,
such as config.language.languages, and `stages` may name any of them, or your own as module:function.

Answers that decline go: leave `refusal` and `boilerplate` out where declining is what is taught. So do answers with
places left to fill, such as {{name}}: fill them first, or take placeholder out of config.artifacts.checks. To try a
config, set config.limit=1000.

To keep test sets out, add decontaminate with config.decontaminate.against; to score by a model, ifd or deita with its
model; to choose among all, diversity; to set the parts of the inputs, mix.
"""

from jitune.construct.curate.config import defaults


def get_config():
    config = defaults()
    config.stages = ("empty,length,encoding,repetition,artifacts,language,refusal,boilerplate,"
                     "hallucinated_input,pii,exact,minhash")
    config.length.max_characters = 100_000  # of all texts of a record together
    config.language.languages = ""  # such as "en,zh"; "": all are kept, and noted
    config.pii.action = "redact"  # or reject
    config.exact.of = "conversation"  # or prompt, answer, both
    config.minhash.threshold = 0.8  # of word 5-grams
    config.workers = -1  # a process for each core
    config.examples = 3  # of each reason, in the report
    return config
