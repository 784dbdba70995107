"""Mean losses of answers, after their instruction and alone.

    found = losses(engine, [write_parts("Add 2 and 3.", "", "5", "alpaca")], prompt="alpaca", max_length=512)
    found[0]                # conditional, direct, their tokens, tokens cut off, why there is none: see COLUMNS

What is a token of the answer is decided as the authors of IFD do: prompt and answer are tokenized together, and the
answer begins after as many tokens as the prompt alone has. Where nothing stands before an answer alone, not even a BOS,
its first token has no prediction, and its loss is the mean of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jitune.construct.curate.scores.texts import CERTAIN, TOO_LONG, TOO_SHORT, Texts

COLUMNS = ("conditional", "direct", "conditional_tokens", "direct_tokens", "cut", "why")


def losses(engine: Any, texts: Sequence[Texts], *, prompt: str, max_length: int, direct: bool = True) -> np.ndarray:
    """float32 [texts, 6], see COLUMNS; losses are means in nats a token, and 0 where `why` is not.

    prompt: one of `texts.PROMPTS`, which says how much of the answer alone is scored, see `room`. max_length: tokens of
    prompt and answer, or the engine's limit, what is less; what is beyond is cut off on the right. direct: whether the
    answer alone is scored too. Tokens that are cut are those of the answer after its prompt, or of the answer alone
    where these are more. Raises UserError, naming the text, for losses that are not finite.
    """
    max_length = min(max_length, engine.limit)
    whole, before = _encode(engine, texts, lambda t: t.context)
    alone, header = _encode(engine, texts, lambda t: t.direct) if direct else (whole, before)
    found = np.zeros((len(texts), len(COLUMNS)), np.float32)
    pairs, owners = [], []
    for i in range(len(texts)):
        kept = whole[i][:max_length], alone[i][: room(prompt, max_length, before[i], header[i])]
        starts = max(before[i], 1), max(header[i], 1)
        asked = [(kept[k][: starts[k]], kept[k][starts[k] :]) for k in range(2 if direct else 1)]
        found[i, 4] = max(len(whole[i]) - len(kept[0]), len(alone[i]) - len(kept[1]) if direct else 0)
        if not all(answer for _, answer in asked):
            short = len(whole[i]) <= starts[0] or (direct and len(alone[i]) <= starts[1])
            found[i, 5] = TOO_SHORT if short else TOO_LONG
            continue
        pairs += asked
        owners += [(i, k) for k in range(len(asked))]
    engine.counts["truncated"] += int((found[:, 4] > 0).sum())
    kinds = ("after its instruction", "alone")
    scored = engine.score_tokens(pairs, name=lambda j: f"{texts[owners[j][0]].name}, answer {kinds[owners[j][1]]}")
    for (i, k), (_, answer), (total, *_) in zip(owners, pairs, scored, strict=True):
        found[i, k], found[i, 2 + k] = -total / len(answer), len(answer)
    if direct:
        found[(found[:, 5] == 0) & (found[:, 1] == 0), 5] = CERTAIN
    return found


def room(prompt: str, max_length: int, before: int, header: int) -> int:
    """Tokens of the answer alone, and of what stands before it, that are scored where max_length cuts.

    As the authors' scripts have it: Cherry's (alpaca) leaves max_length - prompt - 2, and nothing where that is no more
    than 4; Superfiltering's (plain) max_length - prompt + 1. For chat: as many tokens of the answer as after its
    prompt. before, header: tokens before the answer with and without its instruction.
    """
    before = min(before, max_length)
    if prompt == "alpaca":
        left = max_length - before - 2
        return left if left > 4 else 0
    return max_length - before + (1 if prompt == "plain" else header)


def nothing(why: int) -> np.ndarray:
    """The row of an answer that cannot be scored; why: a number in `texts.WHY`."""
    return np.asarray([0, 0, 0, 0, 0, why], np.float32)


def unite(rows: list[np.ndarray]) -> np.ndarray:
    """One row of several answers' rows: the means over all tokens of those that have a loss."""
    if len(rows) == 1:
        return rows[0]
    scored = np.stack([row for row in rows if not row[5]] or rows[-1:]).astype(np.float64)
    counts = scored[:, 2:4].sum(axis=0)
    means = (scored[:, :2] * scored[:, 2:4]).sum(axis=0) / np.where(counts > 0, counts, 1)
    return np.asarray([*means, *counts, scored[:, 4].sum(), scored[0, 5]], np.float32)


def _encode(engine: Any, texts: Sequence[Texts], front) -> tuple[list[list[int]], list[int]]:
    """Token ids of each text with its answer, and how many tokens there are before the answer."""
    from jitune.evals.engine import tokens

    ids = {plain: tokens.encode(engine.pretrained.tokenizer,
                                [s for t in texts if t.plain == plain for s in (front(t), front(t) + t.answer)],
                                plain=plain) for plain in (True, False)}  # fmt: skip
    found = [(ids[t.plain][front(t) + t.answer], len(ids[t.plain][front(t)])) for t in texts]
    return [whole for whole, _ in found], [count for _, count in found]
