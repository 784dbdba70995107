"""An engine that is told what to answer."""

from jitune.evals.task import Score


class Tokenizer:
    """A token a character."""

    all_special_tokens = ["<|im_end|>", "</s>", "<s>", "[INST]", "\n"]
    bos_token_id = eos_token_id = 0
    chat_template = None

    def __call__(self, texts, **_):
        ids = [[ord(c) for c in text] for text in ([texts] if isinstance(texts, str) else texts)]
        return {"input_ids": ids[0] if isinstance(texts, str) else ids}


class Engine:
    """Answers in two batches, the second half first. answer: `(text of the prompt) -> Generated or LogLikelihood`."""

    limit = 300

    def __init__(self, answer):
        self.answer_one, self.prompts, self.asked = answer, [], []

    def generate_tokens(self, prompts, *, max_new_tokens, temperature, on_done, **_):
        texts = ["".join(map(chr, ids)) for ids in prompts]
        self.prompts += texts
        self.asked += list(zip(max_new_tokens, temperature, strict=True))
        self._give([self.answer_one(text) for text in texts], on_done)

    def answer(self, requests, *, on_done):
        assert all(isinstance(r, Score) for r in requests)
        self._give([self.answer_one(r.continuation) for r in requests], on_done)

    def _give(self, found, on_done):
        half = len(found) // 2
        for part in (range(half, len(found)), range(half)):
            on_done([(i, found[i]) for i in part])
