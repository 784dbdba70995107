"""Log-probabilities of the tokens of prompts, as OpenAI's completions give them with `echo` and `logprobs`.

    (found,) = prompt_logprobs(model, params, [[1, 5, 9]], top=2)
    found.logprobs        # [None, -2.31, -0.04]: nothing stands before the first token
    found.top_logprobs    # [None, [(7, -0.9), (5, -2.31)], [(9, -0.04), (2, -3.6)]]
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jitune import sharding
from jitune.generation.batches import NARROWEST, power_of_two, round_up
from jitune.generation.decode_loop import CHUNK, likeliest, replicate, slots_in_front
from jitune.generation.generate import MOST_TOP
from jitune.generation.prompts import check_prompt
from jitune.types import Model, Params, UserError


class PromptLogprobs(NamedTuple):
    """Of one prompt. logprobs: of each token, in nats, given those before it; None for the first.

    top_logprobs: the likeliest tokens at each place, the likeliest first, as (id, logprob), None for the first; None
    where they are not asked for.
    """

    logprobs: list[float | None]
    top_logprobs: list[list[tuple[int, float]] | None] | None = None


def prompt_logprobs(
    model: Model, params: Params, prompts: Sequence[Sequence[int]], *, top: int = 0, batch_size: int = 8,
    max_positions: int = 0,
) -> list[PromptLogprobs]:  # fmt: skip
    """The log-probability of every token of every prompt, by the model's own logits.

    top: alternatives that are told of each token. max_positions: the model's context; 0: none. Raises UserError for an
    empty prompt, one that is longer than the context, and logits that are not finite.
    """
    if not 0 <= top <= MOST_TOP:
        raise UserError(f"prompt_logprobs: top={top} is not allowed; it is from 0 (none) to {MOST_TOP}")
    taken = slots_in_front(model)
    for i, prompt in enumerate(prompts):
        where = f"prompt {i + 1} of {len(prompts)}"
        check_prompt(prompt, where)
        if max_positions and len(prompt) + taken > max_positions:
            raise UserError(f"{where}: its {len(prompt)} tokens are more than the model's context of {max_positions}"
                            f"{f', less {taken} that are trained' if taken else ''}")  # fmt: skip
    mesh = sharding.mesh_of(params)
    rows = round_up(min(max(batch_size, 1), power_of_two(len(prompts))), sharding.batch_shards(mesh) if mesh else 1)
    order, found = sorted(range(len(prompts)), key=lambda i: -len(prompts[i])), {}
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        longest = len(prompts[chosen[0]])
        width = max(NARROWEST, power_of_two(longest)) if longest <= CHUNK else round_up(longest, CHUNK)
        tokens, lengths = np.zeros((rows, width), np.int32), np.zeros(rows, np.int32)
        for row, i in enumerate(chosen):
            lengths[row] = len(prompts[i])
            tokens[row, : lengths[row]] = prompts[i]
        with jax.set_mesh(mesh) if mesh else nullcontext():
            scored = _score(params, *sharding.put_whole((tokens, lengths), mesh), model=model, top=top)
        logprobs, best = jax.device_get(scored)
        for row, i in enumerate(chosen):
            found[i] = _told(logprobs[row], best and [x[row] for x in best], lengths[row] - 1, i, len(prompts))
    return [found[i] for i in range(len(prompts))]


def _told(logprobs, best, n: int, i: int, count: int) -> PromptLogprobs:
    if not np.isfinite(logprobs[:n]).all():
        raise UserError(f"prompt {i + 1} of {count}: the model's logits are not finite: broken weights, a dtype that "
                        "overflows, or token ids beyond the model's vocabulary")  # fmt: skip
    top = None
    if best:
        ids, values = (x[:n].tolist() for x in best)
        top = [None, *(list(zip(a, b, strict=True)) for a, b in zip(ids, values, strict=True))]
    return PromptLogprobs([None, *logprobs[:n].tolist()], top)


@partial(jax.jit, static_argnames=("model", "top"))
def _score(params, tokens, lengths, *, model: Model, top: int):
    """(log-probability of the token behind each, likeliest there) of tokens [batch, width], padded on the right."""
    rows, width = tokens.shape
    positions = jnp.broadcast_to(jnp.arange(width), tokens.shape)
    segments = (positions < lengths[:, None]).astype(jnp.int32)
    batch = {"tokens": tokens, "segment_ids": segments, "positions": positions}
    hidden, _ = model.hidden(params, batch)
    targets = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))

    def part(pair):
        hidden, targets = pair
        logits = model.unembed(params, hidden)
        chosen = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1), likeliest(logits, top)

    # A part of the places at once: logits of all of them may be more than the memory holds.
    parts = [jnp.moveaxis(x.reshape(rows, -1, NARROWEST, *x.shape[2:]), 1, 0) for x in (hidden, targets)]
    found = jax.lax.map(part, tuple(parts))
    return replicate(jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(rows, width, *x.shape[3:]), found))
