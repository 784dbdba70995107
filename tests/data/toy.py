"""Tiny tokenizers for tests, built in the process: byte-level BPE with the markers of the common families.

    tokenizer = toy.make_tokenizer(chat_template=template)
"""

from __future__ import annotations

from jitune.hub.tokenizer import import_transformers

CORPUS = [
    "the quick brown fox jumps over the lazy dog. the user asks and the assistant answers in full.",
    "hello world, how are you today? I am fine, thank you. what is two plus two? it is four.",
    "instruction response input output system tool call result name arguments",
    "écoute 你好 世界 日本語 emoji 🙂 def f(x):\n    return x + 1\n\n",
]
MARKERS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
    "<bos>", "<start_of_turn>", "<end_of_turn>",
]  # fmt: skip
WORDS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]  # added, but not special, as in Qwen


def make_tokenizer(*, chat_template=None, bos=None, add_bos=False, eos="<|endoftext|>", pad="<|endoftext|>",
                   trim_offsets=False, markers=MARKERS, corpus=CORPUS):  # fmt: skip
    """A PreTrainedTokenizerFast with about 400 ids; with `add_bos` it puts `bos` in front by itself."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(markers), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in WORDS])
    steps = [processors.ByteLevel(trim_offsets=trim_offsets)]
    if add_bos:
        steps.append(processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]))  # fmt: skip
    tokenizer.post_processor = processors.Sequence(steps)
    return import_transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad, chat_template=chat_template,
        clean_up_tokenization_spaces=False, model_max_length=10**9,
    )  # fmt: skip
