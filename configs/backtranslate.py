"""jitune data distill --config backtranslate --config.input=TEXTS --config.teacher.model=M --config.output_dir=OUT

Instruction back-translation (Humpback): a model writes the instruction that each document of a corpus answers, and
another scores the pairs; those of 4.5 and more out of 5 are kept, with the document as the answer. Conversations among
the input are seeds, which go along with a system message of their own.

Here the teacher does both. With a model that was tuned on pairs turned round (question and answer exchanged), set
config.second.model, config.backtranslate.backward=second and config.backtranslate.backward_prompt=plain. The paper
makes two iterations: tune on kept.jsonl, and run again with the tuned model as the teacher.
"""

from jitune.construct.distill.config import defaults


def get_config():
    config = defaults()
    config.method = "backtranslate"
    config.backtranslate.threshold = 4.5
    config.backtranslate.scores = 1  # averaged; more need score_temperature over 0
    config.backtranslate.temperature = 0.7  # of instructions
    config.backtranslate.top_p = 0.9
    config.backtranslate.segment = "whole"  # or paragraphs
    config.backtranslate.min_words = 30  # of a document, or of a piece of one
    config.backtranslate.max_words = 1500
    return config
