"""Generation: prompts in, tokens, text and log-probabilities out.

    answers = generate(model, params, tokenizer, [[1, 5, 9]], max_new_tokens=64, stop_ids=(2,))
    for piece in stream(model, params, tokenizer, [1, 5, 9], max_new_tokens=64): print(piece, end="")
    generate_file(pretrained, "prompts.jsonl", "answers.jsonl", max_new_tokens=64)

Prompts are batched by length and padded on the left to one of few widths; the device appends tokens in
blocks, and between blocks the host looks for stop strings. Compiled functions are kept for each `Model`
object: make it once (`decoder.build`, `transform.apply`) and pass the same one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from jitune import sharding
from jitune.generation import decode_loop
from jitune.generation.decode_loop import BLOCK, CHUNK, Prompts, slots_in_front
from jitune.generation.detokenize import decode, find_stop, settled
from jitune.generation.prompts import check_prompt
from jitune.generation.rows import generate_each, read_prompts
from jitune.generation.sampling import GREEDY, Sampling
from jitune.types import BATCH_AXES, Model, Params, Pretrained, UserError

NARROWEST = 64  # the least width that prompts are padded to
FIRST_SLOTS = 64  # for new tokens; the cache then grows as they come
STREAM_BLOCK = 8


class Generation(NamedTuple):
    """One answer.

    Attributes:
      tokens: the generated ids; the last is the stop token where one was generated.
      text: of those tokens, without special tokens, and cut before a stop string.
      logprobs: of each token, in nats, by the model's own logits, before penalty, temperature and filters.
      finish_reason: `stop` (a stop token or string) or `length`.
    """

    tokens: list[int]
    text: str
    logprobs: list[float]
    finish_reason: str


def generate(
    model: Model,
    params: Params,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (),
    stop_strings: Sequence[str] = (),
    batch_size: int = 8,
    max_positions: int = 0,
    row_ids: Sequence[int] | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[Generation]:
    """Generates an answer to every prompt, in their order.

    Args:
      params: as the model takes them (a pair, after `transform.apply`). If they lie on a mesh, the rows are
        split over it.
      tokenizer: for texts and stop strings; with None the texts are empty.
      prompts: token ids of each prompt, see `encode_prompt`.
      max_new_tokens: the most tokens of an answer, the stop token included.
      stop_ids: tokens that end an answer.
      stop_strings: texts that end an answer; tokens are cut to the fewest whose text holds one. One that is a
        special token counts as its id.
      batch_size: prompts at once, rounded up to a multiple of the mesh's batch shards.
      max_positions: the model's context, with what is trained in front; answers end there with `length`; 0: none.
      row_ids: numbers that seed the prompts' samples; by default their places in `prompts`.
      on_done: called with the number of answers after each batch.

    Raises:
      UserError: an empty prompt, one that fills the context, or logits that are not finite.
    """
    _check(tokenizer, max_new_tokens, stop_strings)
    taken = slots_in_front(model)
    for i, prompt in enumerate(prompts):
        check_prompt(prompt, f"prompt {i + 1} of {len(prompts)}", max_positions=max_positions, taken=taken)
    stop_ids, stop_strings = _sort_stops(tokenizer, stop_ids, stop_strings)
    row_ids = range(len(prompts)) if row_ids is None else row_ids
    mesh = _batch_mesh(params)
    rows = min(max(batch_size, 1), _power_of_two(len(prompts)))
    rows = _round_up(rows, sharding.batch_shards(mesh) if mesh else 1)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    found: dict[int, Generation] = {}
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        batch_prompts, ids = [prompts[i] for i in chosen], [row_ids[i] for i in chosen]
        batch = _pad(batch_prompts, ids, rows, max_new_tokens, max_positions and max_positions - taken)
        answers = [_Answer(tokenizer, prompt, stop_ids, stop_strings) for prompt in batch_prompts]
        run = _blocks(model, params, mesh, batch, max_new_tokens, sampling, stop_ids, BLOCK)
        for _ in _follow(run, answers, rows):
            pass
        found.update({i: answer.generation() for i, answer in zip(chosen, answers, strict=True)})
        if on_done:
            on_done(len(chosen))
    return [found[i] for i in range(len(prompts))]


def stream(
    model: Model,
    params: Params,
    tokenizer: Any,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (),
    stop_strings: Sequence[str] = (),
    max_positions: int = 0,
    block: int = STREAM_BLOCK,
) -> Iterator[str]:
    """Yields the text of one answer as it grows; the pieces join to `Generation.text`. See `generate`.

    A piece never ends inside a character, nor in what may become a stop string. The generator's return value
    is the Generation. block: tokens between two pieces, at most 32.
    """
    _check(tokenizer, max_new_tokens, stop_strings)
    taken = slots_in_front(model)
    check_prompt(prompt, "prompt", max_positions=max_positions, taken=taken)
    stop_ids, stop_strings = _sort_stops(tokenizer, stop_ids, stop_strings)
    mesh = _batch_mesh(params)
    rows = sharding.batch_shards(mesh) if mesh else 1
    batch = _pad([prompt], [0], rows, max_new_tokens, max_positions and max_positions - taken)
    answer = _Answer(tokenizer, prompt, stop_ids, stop_strings)
    run = _blocks(model, params, mesh, batch, max_new_tokens, sampling, stop_ids, min(max(block, 1), BLOCK))
    shown = ""
    for _ in _follow(run, [answer], rows):
        text = answer.text if answer.done else settled(decode(tokenizer, answer.tokens, prompt), stop_strings)
        if len(text) > len(shown) and (answer.done or text.startswith(shown)):
            yield text[len(shown) :]
            shown = text
    return answer.generation()


class _Answer:
    """An answer while it grows."""

    def __init__(self, tokenizer, prompt, stop_ids, stop_strings):
        self.tokenizer, self.prompt = tokenizer, prompt
        self.stop_ids, self.stop_strings = stop_ids, stop_strings
        self.tokens, self.logprobs = [], []
        self.text, self.done, self.cut = "", False, False

    def extend(self, tokens: np.ndarray, logprobs: np.ndarray, finished: bool) -> None:
        if not np.isfinite(logprobs).all():
            raise UserError("generate: the model's logits are not finite: broken weights, a dtype that "
                            "overflows, or token ids beyond the model's vocabulary")  # fmt: skip
        before = len(self.tokens)
        self.tokens += tokens.tolist()
        self.logprobs += logprobs.tolist()
        cut = find_stop(self.tokenizer, self.tokens, self.prompt, self.stop_strings, start=before)
        if cut:
            count, self.text = cut
            self.tokens, self.logprobs = self.tokens[:count], self.logprobs[:count]
        elif finished:
            self.text = decode(self.tokenizer, self.tokens, self.prompt)
        self.cut, self.done = bool(cut), bool(cut) or finished

    def generation(self) -> Generation:
        stopped = self.cut or self.tokens[-1] in self.stop_ids
        return Generation(self.tokens, self.text, self.logprobs, "stop" if stopped else "length")


def _follow(run, answers: list[_Answer], rows: int) -> Iterator[None]:
    """Feeds blocks to the answers until all are done, yielding after each block."""
    block = next(run)
    while True:
        for i, answer in enumerate(answers):
            if not answer.done:
                n = block.counts[i]
                answer.extend(block.tokens[i, :n], block.logprobs[i, :n], block.left[i] == 0)
        yield
        if all(answer.done for answer in answers):
            return
        block = run.send(np.array([a.done for a in answers] + [True] * (rows - len(answers))))


def _blocks(model, params, mesh, batch: Prompts, max_new_tokens, sampling, stop_ids, limit):
    """Yields blocks as numpy arrays; sent in: the rows, bool [batch], that are stopped from here on."""
    options = {"model": model, "sampling": replace(sampling, seed=0)}  # a seed is no reason to compile anew
    ids = sorted(stop_ids)
    ids = np.asarray(ids + [-1] * (_round_up(len(ids) + 1, 8) - len(ids)), np.int32)
    used = batch.tokens.shape[1]
    most = _round_up(used + max_new_tokens, 128)
    capacity = min(_power_of_two(used + FIRST_SLOTS), most)
    # A mesh is set around device work only: a consumer's code runs between the blocks.
    context = (lambda: jax.set_mesh(mesh)) if mesh else nullcontext
    with context():
        batch, seed = _put(batch, mesh), np.uint32(sampling.seed)
        state, block = decode_loop.prefill(params, batch, seed, ids, capacity=capacity, **options)
    while True:
        stopped = yield jax.device_get(block)
        with context():
            # Attention costs as much as the cache is long, and few answers are as long as they may be.
            if used + limit > capacity and capacity < most:
                more = min(2 * capacity, most) - capacity
                state, capacity = state._replace(cache=decode_loop.grow(state.cache, more)), capacity + more
            stopped = _put(stopped, mesh)
            state, block = decode_loop.decode(params, state, ids, stopped, np.int32(limit), **options)
        used += limit


def _batch_mesh(params: Params):
    """The mesh that params lie on, if it has the axes of a batch; else None."""
    for leaf in jax.tree.leaves(params):
        home = getattr(leaf, "sharding", None)
        if isinstance(home, NamedSharding) and set(BATCH_AXES) <= set(home.mesh.axis_names):
            return home.mesh
    return None


def _put(batch, mesh):
    """Lays arrays, which every process holds whole, on the mesh, rows split."""
    if mesh is None:
        return batch
    home = sharding.batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, home, lambda index: x[index]), batch)


def _pad(prompts, row_ids, rows: int, max_new_tokens: int, max_positions: int) -> Prompts:
    """Prompts of one batch, padded on the left; rows that are missing may generate nothing."""
    longest = max(map(len, prompts))
    width = max(NARROWEST, _power_of_two(longest)) if longest <= CHUNK else _round_up(longest, CHUNK)
    batch = Prompts(np.zeros((rows, width), np.int32), *np.zeros((3, rows), np.int32))
    for i, prompt in enumerate(prompts):
        batch.tokens[i, width - len(prompt) :] = prompt
        batch.lengths[i], batch.row_ids[i] = len(prompt), row_ids[i]
        batch.left[i] = min(max_new_tokens, (max_positions or math.inf) - len(prompt))
    return batch


def _power_of_two(n: int) -> int:
    """The next one: 5 -> 8, 8 -> 8."""
    return 1 << max(n - 1, 0).bit_length()


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _check(tokenizer, max_new_tokens, stop_strings) -> None:
    if max_new_tokens < 1:
        raise UserError(f"generate: max_new_tokens={max_new_tokens} must be at least 1")
    if isinstance(stop_strings, str) or not all(stop_strings):
        raise UserError(f"generate: stop_strings={stop_strings!r} must be a list of texts that are not empty")
    if stop_strings and tokenizer is None:
        raise UserError("generate: stop strings need a tokenizer, and the model has none")


def _sort_stops(tokenizer, stop_ids, stop_strings) -> tuple[frozenset[int], tuple[str, ...]]:
    """A special token never appears in a text, so a stop string that is one is looked for among the ids."""
    added = tokenizer.added_tokens_decoder.values() if stop_strings else ()
    special = {token.content for token in added if token.special}
    ids = [tokenizer.convert_tokens_to_ids(s) for s in stop_strings if s in special]
    return frozenset(map(int, [*stop_ids, *ids])), tuple(s for s in stop_strings if s not in special)


def generate_file(
    pretrained: Pretrained,
    in_path: str | Path,
    out_path: str | Path,
    *,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_ids: Sequence[int] = (),
    stop_strings: Sequence[str] = (),
    batch_size: int = 8,
    chat_template: str | None = None,
    adapters: Mapping[str, Pretrained] | None = None,
    progress: bool = True,
) -> list[Generation]:
    """Answers every row of a file (see `encode_prompt`) and writes JSON lines: the row with those of the answer added.

    in_path: what `data.sources` reads, JSON lines as a rule. stop_ids: besides the default ones. adapters: models that
    rows choose from by name, see `generation.rows`. The output is written beside out_path and moved there at the end.
    Log-probabilities are rounded to six digits.

    Raises:
      UserError: `file:row: ...`, before anything is generated.
    """
    rows, models, prompts = read_prompts(pretrained, adapters or {}, in_path, chat_template)
    draft = Path(f"{out_path}.partial")
    writer = jax.process_index() == 0
    try:
        if writer:
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.touch()
        with _bar(len(rows), progress and writer) as on_done:
            answers = generate_each(
                generate, models, prompts, stop_ids=stop_ids, chat_template=chat_template, sampling=sampling,
                max_new_tokens=max_new_tokens, stop_strings=stop_strings, batch_size=batch_size, on_done=on_done,
            )  # fmt: skip
        if writer:
            with draft.open("w", encoding="utf-8") as file:
                for row, answer in zip(rows, answers, strict=True):
                    answer = answer._replace(logprobs=[round(x, 6) for x in answer.logprobs])
                    file.write(json.dumps({**row, **answer._asdict()}, ensure_ascii=False) + "\n")
            os.replace(draft, out_path)
    except OSError as error:
        raise UserError(f"{out_path}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink()
    return answers


@contextmanager
def _bar(total: int, shown: bool):
    """A progress bar on stderr; gives the function that advances it."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("generating", total=total)
        yield lambda count: bar.advance(task, count)
