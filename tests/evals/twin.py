"""What the tests of the engine share: a tiny model with a tokenizer, and a twin that scores one text at a time."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from jitune.types import Pretrained
from tests.data import toy
from tests.generation import scripted as toys

CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LIMIT = 256  # the context that most tests give their engines: one width of rows
WINDOWS = {
    "llama": {},
    "mistral": {"sliding_window": 11},
    "qwen3": {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
}


@cache
def pretrained(family="llama", **options) -> Pretrained:
    """A tiny model whose tokenizer puts a BOS in front."""
    tokenizer = toy.make_tokenizer(chat_template=CHAT, bos="<bos>", add_bos=True)
    model, params, config = toys.tiny(family, vocab_size=len(tokenizer), **WINDOWS.get(family, {}), **options)
    return Pretrained(model, params, tokenizer, config)


@partial(jax.jit, static_argnames="model")
def forward(model, params, tokens):
    """Log-probabilities [length, vocab] of one text, alone in its row."""
    hidden, _ = model.hidden(params, {"tokens": tokens[None]})
    return jax.nn.log_softmax(model.unembed(params, hidden)[0])


def score_one(given: Pretrained, context, continuation, limit=LIMIT, width=None):
    """(log-likelihood, greedy) of a pair. What pads a text on the right is seen by none of its tokens."""
    window = [*context, *continuation][-(limit + 1) :]
    inputs = window[:-1]
    padded = jnp.asarray(inputs + [0] * ((width or limit) - len(inputs)))
    found = np.asarray(forward(given.model, given.params, padded))[len(inputs) - len(continuation) : len(inputs)]
    chosen = found[np.arange(len(continuation)), continuation].astype(np.float64)
    return chosen.sum(), bool((found.argmax(-1) == continuation).all())


def greedy_pairs(given: Pretrained, count: int, length: int):
    """Pairs whose continuation is the model's own, with the last token changed in every second one."""
    rng = np.random.default_rng(5)
    pairs = []
    for i in range(count):
        text = rng.integers(1, given.config.vocab_size, length).tolist()
        for _ in range(3):
            padded = jnp.asarray(text + [0] * (LIMIT - len(text)))
            text.append(int(np.asarray(forward(given.model, given.params, padded))[len(text) - 1].argmax()))
        if i % 2:
            text[-1] = (text[-1] + 1) % given.config.vocab_size
        pairs.append((text[:-3], text[-3:]))
    return pairs


def random_pairs(vocab: int, count: int = 24, limit: int = LIMIT, seed: int = 0):
    """Pairs of all kinds: choices after one context, single tokens, long ones, some longer than the context."""
    rng = np.random.default_rng(seed)
    header = rng.integers(1, vocab, 40).tolist()
    pairs = []
    for i in range(count):
        context = header[: 40 * (i % 3 == 0)] + rng.integers(1, vocab, int(rng.integers(1, 50))).tolist()
        pairs += [(context, rng.integers(1, vocab, int(rng.integers(1, 12))).tolist()) for _ in range(3)]
    pairs += [(pairs[0][0], [token]) for token in range(1, 8)]
    pairs += [(rng.integers(1, vocab, limit + 30).tolist(), choice) for choice in ([4], [5], [4, 6, 7])]
    pairs += [([1], rng.integers(1, vocab, limit).tolist())]
    return pairs
