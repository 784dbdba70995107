"""A model whose parameters are the log-probabilities of a batch's targets, and packed batches of random answers.

    values, batch = draw(rng, [(5, 3), (2, 4)], sides=(1, -1))     # two pairs by their lengths, in two rows
    dpo(reference=None)(MODEL, values, batch, None)
"""

import jax.numpy as jnp
import numpy as np

from jitune.objectives.preference import log1mexp
from jitune.types import Model


def _unembed(params, hidden):
    """Two tokens: the target, which is 0, and the other."""
    return jnp.stack([hidden[..., 0], log1mexp(hidden[..., 0])], axis=-1)


MODEL = Model(None, None, lambda params, batch, cache=None: (params[..., None], cache), _unembed, None)


def draw(rng, units, *, sides=(1, -1), rows=2, seq=24):
    """(log-probabilities [rows, seq], batch): units are laid into the rows in turn; a prompt token stands in front of
    each answer's, of which the last predicts nothing. sides: of the two of a unit, or one such pair a unit."""
    names = ("targets", "segment_ids", "positions", "sides")
    batch = {name: np.zeros((rows, seq), np.int32) for name in names}
    batch["loss_weights"] = np.zeros((rows, seq), np.float32)
    used, segments = [0] * rows, [0] * rows
    sides = sides if isinstance(sides[0], tuple) else [sides] * len(units)
    for i, (lengths, both) in enumerate(zip(units, sides, strict=True)):
        row = i % rows
        for length, side in zip(lengths, both, strict=True):
            place = slice(used[row], used[row] + length + 2)
            assert place.stop <= seq
            segments[row] += 1
            batch["segment_ids"][row, place], batch["sides"][row, place] = segments[row], side
            batch["positions"][row, place] = np.arange(length + 2)
            batch["loss_weights"][row, place.start + 1 : place.stop - 1] = 1
            used[row] = place.stop
    values = -rng.gamma(2.0, 0.4, (rows, seq)).astype(np.float32)
    batch["reference_logprobs"] = -rng.gamma(2.0, 0.4, (rows, seq)).astype(np.float32)
    return values, batch


def documents(values, batch):
    """(side, log-probabilities of the trained slots) of every document, in the order of the rows."""
    for row, ids in enumerate(batch["segment_ids"]):
        for segment in range(1, ids.max(initial=0) + 1):
            inside = ids == segment
            trained = inside & (batch["loss_weights"][row] > 0)
            yield int(batch["sides"][row][inside][0]), np.asarray(values, np.float64)[row][trained]
