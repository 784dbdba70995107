"""A batch of prompts on its way through the decode loop: padded rows in, answers that grow block by block out.

    batch = pad(prompts, row_ids, rows, new, max_positions)
    run = blocks(model, params, mesh, batch, new, GREEDY, stop_ids, BLOCK)
    for _ in follow(run, answers, rows): ...

A batch has the width of its own prompts, or a `Shape` that is the same for many batches, whose programs are then
compiled once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from jitune import sharding
from jitune.generation import decode_loop
from jitune.generation.decode_loop import CHUNK, Prompts
from jitune.generation.detokenize import decode, find_stop, settled
from jitune.types import UserError

NARROWEST = 32  # the least width that prompts are padded to
FIRST_SLOTS = 64  # for new tokens; the cache then grows as they come
QUEUE_CHUNK, QUEUE_CHUNK_ON_CPU = 128, 64  # prompt tokens of a queue that go through the model at once
AT_ONCE = 1 << 28  # bytes of a cache that has all its slots from the start


class Generation(NamedTuple):
    """One answer.

    Attributes:
      tokens: the generated ids; the last is the stop token where one was generated.
      text: of those tokens, without special tokens, and cut before a stop string.
      logprobs: of each token, in nats, by the model's own logits, before penalty, temperature and filters.
      finish_reason: `stop` (a stop token or string) or `length`.
      top_logprobs: where they were asked for, of each token the likeliest tokens at its place, the likeliest first,
        as (id, logprob); by the same logits.
    """

    tokens: list[int]
    text: str
    logprobs: list[float]
    finish_reason: str
    top_logprobs: list[list[tuple[int, float]]] | None = None


class Shape(NamedTuple):
    """Shapes of a batch that do not depend on its prompts.

    width: prompts are padded to it, a multiple of `chunk`, the tokens that go through the model at once; chunks of
    padding alone do not. capacities: slots of the cache, ascending: it begins with the first, which holds the longest
    prompt, rounded up to chunks, and grows to the next where answers need it; the last holds all of them.
    """

    width: int
    chunk: int
    capacities: tuple[int, ...]


class Answer:
    """An answer while it grows. where: begins the message of an error."""

    def __init__(self, tokenizer, prompt, stop_ids, stop_strings, where="generate"):
        self.tokenizer, self.prompt, self.where = tokenizer, prompt, where
        self.stop_ids, self.stop_strings = stop_ids, stop_strings
        self.tokens, self.logprobs, self.top = [], [], None
        self.text, self.done, self.cut = "", False, False

    def so_far(self) -> list[int]:
        """The prompt and the answer's tokens."""
        return [*self.prompt, *self.tokens]

    def take(self, block, row: int) -> None:
        """What a block on the host has in one of its rows; see `extend`."""
        n = block.counts[row]
        top = block.top and tuple(x[row, :n] for x in block.top)
        self.extend(block.tokens[row, :n], block.logprobs[row, :n], block.left[row] == 0, top)

    def extend(self, tokens: np.ndarray, logprobs: np.ndarray, finished: bool, top=None) -> None:
        """Takes what a block brought. Raises UserError for log-probabilities that are not finite.

        top: (ids, logprobs), [n, k], the likeliest tokens at each place.
        """
        if not np.isfinite(logprobs).all():
            raise UserError(f"{self.where}: the model's logits are not finite: broken weights, a dtype that "
                            "overflows, or token ids beyond the model's vocabulary")  # fmt: skip
        before = len(self.tokens)
        self.tokens += tokens.tolist()
        self.logprobs += logprobs.tolist()
        if top is not None:
            pairs = zip(*(x.tolist() for x in top), strict=True)
            self.top = (self.top or []) + [list(zip(ids, values, strict=True)) for ids, values in pairs]
        cut = find_stop(self.tokenizer, self.tokens, self.prompt, self.stop_strings, start=before)
        if cut:
            count, self.text = cut
            self.tokens, self.logprobs = self.tokens[:count], self.logprobs[:count]
            self.top = self.top and self.top[:count]
        elif finished:
            self.text = decode(self.tokenizer, self.tokens, self.prompt)
        self.cut, self.done = bool(cut), bool(cut) or finished

    def generation(self) -> Generation:
        """What it has become."""
        stopped = self.cut or self.tokens[-1] in self.stop_ids
        return Generation(self.tokens, self.text, self.logprobs, "stop" if stopped else "length", self.top)


def follow(run, answers: list[Answer], rows: int) -> Iterator[None]:
    """Feeds blocks to the answers until all are done, yielding after each block."""
    block = next(run)
    while True:
        for i, answer in enumerate(answers):
            if not answer.done:
                answer.take(block, i)
        yield
        if all(answer.done for answer in answers):
            return
        block = run.send(np.array([a.done for a in answers] + [True] * (rows - len(answers))))


def pieces(run, answer: Answer, rows: int) -> Iterator[str]:
    """The text of one answer, the first of `rows`, as blocks bring it; the return value is its Generation.

    A piece never ends inside a character, nor in what may become a stop string.
    """
    shown = ""
    for _ in follow(run, [answer], rows):
        text = decode(answer.tokenizer, answer.tokens, answer.prompt)
        text = answer.text if answer.done else settled(text, answer.stop_strings)
        if len(text) > len(shown) and (answer.done or text.startswith(shown)):
            yield text[len(shown) :]
            shown = text
    return answer.generation()


def blocks(model, params, mesh, batch: Prompts, max_new_tokens, sampling, stop_ids, limit, top: int = 0,
           kv_cache: str = ""):  # fmt: skip
    """Yields blocks as numpy arrays; sent in: the rows, bool [batch], that are stopped from here on.

    limit: tokens of a block. top: alternatives that are told of each token. kv_cache: see `models.cache.KINDS`.
    """
    rest = mesh, max_new_tokens, sampling, stop_ids, limit, top, kv_cache
    return turned(lambda batch: _run(model, params, batch, *rest), batch, decode_loop.turning(model), stop_ids)


def turned(start, batch: Prompts, turn: int, stop_ids):
    """The blocks of `start(batch)`, a run of rows that never turn, for a model with this `decode_loop.turning`."""
    if not turn or batch.left.shape != batch.lengths.shape:
        return (yield from start(batch))
    # Rows that come to the turn wait until all others are done or have come there, too.
    texts = [list(row[len(row) - n :]) for row, n in zip(batch.tokens, batch.lengths, strict=True)]
    left, stopped, first = np.array(batch.left), np.zeros(batch.left.shape, bool), batch
    while True:
        short = turn - batch.lengths
        run = start(batch._replace(left=np.where(short > 0, np.minimum(left, short), left)))
        block = next(run)
        while True:
            for i, n in enumerate(block.counts):
                texts[i] += block.tokens[i, :n].tolist()
                left[i] -= n
                if n and texts[i][-1] in stop_ids:
                    left[i] = 0
            stopped = stopped | (yield block._replace(left=left.copy()))
            going = (left > 0) & ~stopped
            if not (going & (block.left > 0)).any():
                break
            block = run.send(stopped)
        if not going.any():
            return
        batch = _again(first, texts, np.where(going, left, 0))
        left = np.array(batch.left)


def _again(batch: Prompts, texts, left) -> Prompts:
    """The rows of a batch that go on, with what they have so far as their prompts."""
    longer = [text if n else [0] for text, n in zip(texts, left, strict=True)]
    padded = pad(longer, batch.row_ids, len(left), left.tolist(), 0, controls=batch.controls)
    answered = np.maximum(padded.lengths - batch.lengths, 0)
    return padded._replace(temperatures=batch.temperatures, answered=answered)


def _run(model, params, batch: Prompts, mesh, max_new_tokens, sampling, stop_ids, limit, top, kv_cache):
    """`blocks` of rows that never turn."""
    # A seed is no reason to compile anew.
    options = {"model": model, "sampling": replace(sampling, seed=0), "top": top}
    ids, used = pad_stops(stop_ids), batch.tokens.shape[1]
    most = bucket(used + max_new_tokens)
    capacity = first_capacity(model, batch.left.shape[0], used, most, kv_cache)
    # A mesh is set around device work only: a consumer's code runs between the blocks.
    context = (lambda: jax.set_mesh(mesh)) if mesh else nullcontext
    with context():
        batch, seed = sharding.put_whole(batch, mesh), np.uint32(sampling.seed)
        cache = {"capacity": capacity, "kv_cache": kv_cache}
        if max_new_tokens > 1:
            params = decode_loop.prepare(params, model=model, rows=batch.left.shape[0], **cache)
        state, block = decode_loop.prefill(params, batch, seed, ids, **cache, **options)
    while True:
        stopped = yield jax.device_get(block)
        with context():
            if used + limit > capacity and capacity < most:
                more = min(bucket(capacity + 1), most) - capacity
                state, capacity = state._replace(cache=decode_loop.grow(state.cache, more)), capacity + more
            stopped = sharding.put_whole(stopped, mesh)
            state, block = decode_loop.decode(params, state, ids, stopped, np.int32(limit), **options)
        used += limit


def bucket(slots: int) -> int:
    """The least size of a cache that holds so many slots: 128, 256, 384, 512, 768, 1024, 1536, ...

    So there are few sizes, and as few programs.
    """
    size = max(power_of_two(slots), 128)
    return size * 3 // 4 if size >= 512 and slots <= size * 3 // 4 else size


def queue_shape(longest: int, new: int) -> Shape:
    """The shape of a queue whose prompts have at most `longest` tokens, and their answers `new`."""
    chunk = QUEUE_CHUNK_ON_CPU if jax.default_backend() == "cpu" else QUEUE_CHUNK
    width = round_up(bucket(longest + new), QUEUE_CHUNK)
    most = width + QUEUE_CHUNK
    first = min(bucket(round_up(longest, chunk) + FIRST_SLOTS), most)
    return Shape(width, chunk, (first, most) if first < most else (most,))


def first_capacity(model, rows: int, used: int, most: int, kv_cache: str = "") -> int:
    """The slots that a cache begins with.

    Where attention costs as much as the cache is long, few: few answers are as long as they may be. On a CPU it costs
    as much as the cache holds, and a small cache has all its slots at once, so that one program does.
    """
    if jax.default_backend() == "cpu":
        kind = (kv_cache,) if kv_cache else ()
        shapes = jax.tree.leaves(jax.eval_shape(lambda: model.init_cache(rows, most, *kind)))
        if sum(x.size * x.dtype.itemsize for x in shapes) <= AT_ONCE:
            return most
    return min(bucket(used + FIRST_SLOTS), most)


def pad_stops(stop_ids) -> np.ndarray:
    """Stop ids as an array of one of few lengths, filled up with -1, which is no token."""
    ids = sorted(stop_ids)
    return np.asarray(ids + [-1] * (round_up(len(ids) + 1, 8) - len(ids)), np.int32)


def pad(prompts, row_ids, rows: int, max_new_tokens, max_positions: int, *, shape: Shape | None = None,
        temperatures: Sequence[float] | None = None, controls=None) -> Prompts:  # fmt: skip
    """Prompts of one batch, padded on the left; rows that are missing may generate nothing.

    max_new_tokens: of all prompts, or a number for each. temperatures: of each prompt, in place of the sampling's.
    controls: of all `rows`, in place of the sampling.
    """
    longest = max(map(len, prompts))
    width = max(NARROWEST, power_of_two(longest)) if longest <= CHUNK else round_up(longest, CHUNK)
    width = shape.width if shape else width
    most = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
    batch = Prompts(np.zeros((rows, width), np.int32), *np.zeros((3, rows), np.int32))
    for i, prompt in enumerate(prompts):
        batch.tokens[i, width - len(prompt) :] = prompt
        batch.lengths[i], batch.row_ids[i] = len(prompt), row_ids[i]
        batch.left[i] = min(most[i], (max_positions or math.inf) - len(prompt))
    if temperatures is None:
        return batch._replace(controls=controls)
    filled = np.zeros(rows, np.float32)
    filled[: len(prompts)] = temperatures
    return batch._replace(temperatures=filled)


def power_of_two(n: int) -> int:
    """The next one: 5 -> 8, 8 -> 8."""
    return 1 << max(n - 1, 0).bit_length()


def round_up(n: int, multiple: int) -> int:
    """The next multiple: (5, 4) -> 8."""
    return -(-n // multiple) * multiple


def sort_stops(tokenizer, stop_ids, stop_strings) -> tuple[frozenset[int], tuple[str, ...]]:
    """A special token never appears in a text, so a stop string that is one is looked for among the ids."""
    added = tokenizer.added_tokens_decoder.values() if stop_strings else ()
    special = {token.content for token in added if token.special}
    ids = [tokenizer.convert_tokens_to_ids(s) for s in stop_strings if s in special]
    return frozenset(map(int, [*stop_ids, *ids])), tuple(s for s in stop_strings if s not in special)
