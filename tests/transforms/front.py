"""What the tests of prefix and prompt tuning share: packed rows, the plain cache that is their slow twin, generation.

The twin runs each document by itself with an ordinary cache that holds the prefix as if it were tokens of the document:
no packing, no key that is for everyone.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from jitune.models import decoder
from jitune.types import Prefix
from tests.generation import scripted as toys

COUNT = 5  # tokens in front
WINDOWS = {
    "llama": {},
    "mistral": {"sliding_window": 11},
    "qwen3": {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
}
LENGTH = 160  # two blocks of queries
# Rows of several documents, with padding before, between and after them.
ROWS = ([(0, 7), (1, 60), (2, 50), (3, 30), (0, 13)], [(1, 31), (0, 40), (2, 89)])
LONGEST = 89
# Forms of one computation: (scan_layers, remat, attention). The first is compared with the twin, the others with it.
FORMS = ((False, "none", "plain"), (True, "none", "blocks"), (True, "full", "auto"), (False, "dots", "chunked"),
         (True, "dots_no_batch", "plain"))  # fmt: skip


weights = cache(lambda family: toys.tiny(family, **WINDOWS[family])[1:])


def make(family="llama", form=FORMS[0]):
    """(model, params, config) of one form."""
    params, config = weights(family)
    config = config.replace(scan_layers=form[0], remat=form[1], attention=form[2])
    return decoder.build(config), params, config


@partial(jax.jit, static_argnames="model")
def run(model, params, batch):
    """Hidden states, compiled."""
    return model.hidden(params, batch)[0]


def graded(model, pair, batch):
    """(score, gradient of the trainable part), compiled."""
    return jax.jit(jax.value_and_grad(lambda t: score(model.hidden((pair[0], t), batch)[0], batch)))(pair[1])


def packed_batch(rows=ROWS, seed=0):
    """Random tokens in documents of the rows' (segment, length)."""
    segments = np.stack([np.concatenate([np.full(n, s) for s, n in row]) for row in rows]).astype(np.int32)
    positions = np.stack([np.concatenate([np.arange(n) for _, n in row]) for row in rows]).astype(np.int32)
    tokens = np.random.default_rng(seed).integers(1, 331, segments.shape).astype(np.int32)
    return {"tokens": tokens, "segment_ids": segments, "positions": positions}


def documents(rows=ROWS):
    """(row, slice) of each document."""
    for i, row in enumerate(rows):
        start = 0
        for segment, length in row:
            if segment:
                yield i, slice(start, start + length)
            start += length


@partial(jax.jit, static_argnames="model")
def alone(model, params, prefix: Prefix, tokens):
    """Hidden states of one document, [1, length], behind a prefix that an ordinary cache holds as its tokens."""
    count, length = prefix.k.shape[1], tokens.shape[1]
    cache = model.init_cache(1, count + length)
    # As if its keys and values were of ordinary tokens: written by hand, and not by what `fill` does.
    layers = tuple(layer._replace(k=layer.k.at[0, :count].set(k), v=layer.v.at[0, :count].set(v))
                   for layer, k, v in zip(cache.layers, *prefix, strict=True))
    segments = cache.segment_ids.at[:, :count].set(1)
    cache = cache._replace(layers=layers, segment_ids=segments, length=jnp.int32(count))
    return model.hidden(params, {"tokens": tokens, "segment_ids": jnp.ones_like(tokens)}, cache)[0]


def twin(model, params, prefix: Prefix, batch):
    """Hidden states of a packed batch, its documents one by one; zeros where there is padding."""
    out = jnp.zeros((*batch["tokens"].shape, params["norm"]["scale"].size))
    for row, place in documents():
        ids = batch["tokens"][row, place]
        padded = jnp.asarray([[*ids, *[0] * (LONGEST - len(ids))]])
        out = out.at[row, place].set(alone(model, params, prefix, padded)[0, : len(ids)])
    return out


def real(hidden, batch):
    """Hidden states with zeros in place of padding."""
    return jnp.where((batch["segment_ids"] > 0)[..., None], hidden, 0)


def score(hidden, batch):
    """A number that depends on every hidden state of the documents."""
    hidden = real(hidden, batch)
    return jnp.mean(jnp.sin(3 * hidden)) + jnp.mean(jnp.square(hidden[..., 1:] * hidden[..., :-1]))


def check_close(found, expected, *, atol=2e-5):
    """Trees of gradients: absolute within a bound relative to the largest entry."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=atol * float(jnp.abs(b).max()) + 1e-9, rtol=1e-4)


def check_greedy(model, pair, prompts, answers, new):
    """Each answer is the argmax of one forward without a cache over prompt and answer."""
    width = max(map(len, prompts)) + new
    rows = [[*p, *a.tokens] for p, a in zip(prompts, answers, strict=True)]
    batch = {"tokens": jnp.asarray([row + [0] * (width - len(row)) for row in rows]),
             "segment_ids": jnp.asarray([[1] * len(row) + [0] * (width - len(row)) for row in rows])}
    logits = np.asarray(jax.jit(lambda pair, b: model.unembed(pair, model.hidden(pair, b)[0]))(pair, batch))
    for prompt, answer, row in zip(prompts, answers, logits, strict=True):
        assert len(answer.tokens) == new
        row = row[len(prompt) - 1 : len(prompt) + new - 1].astype(np.float64)
        assert answer.tokens == row.argmax(-1).tolist()
        expected = row[np.arange(new), answer.tokens] - np.log(np.exp(row).sum(-1))
        np.testing.assert_allclose(answer.logprobs, expected, atol=2e-5)
    assert len({tuple(a.tokens) for a in answers}) == len(answers), "the model says the same to everything"
