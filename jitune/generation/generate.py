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
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

from jitune import sharding
from jitune.generation.batches import (
    Answer,
    Generation,
    blocks,
    follow,
    pad,
    pieces,
    power_of_two,
    queue_shape,
    round_up,
    sort_stops,
)
from jitune.generation.decode_loop import BLOCK, slots_in_front
from jitune.generation.prompts import check_prompt
from jitune.generation.rows import FIELDS, generate_each, read_prompts
from jitune.generation.sampling import GREEDY, Sampling
from jitune.generation.slots import Waiting, serve
from jitune.models.cache import check_kind
from jitune.types import Model, Params, Pretrained, UserError

STREAM_BLOCK = 8
MOST_TOP = 100  # alternatives of a token


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
    top_logprobs: int = 0,
    kv_cache: str = "",
    on_done: Callable[[int], None] | None = None,
) -> list[Generation]:
    """Generates an answer to every prompt, in their order.

    Where there are more prompts than rows, and answers may end early, a row that is done takes the next prompt.

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
      top_logprobs: alternatives that are told of each token, see `Generation`.
      kv_cache: `int8` keeps keys and values in 8 bits, with a scale a head and token; empty: as the model computes.
      on_done: called with the number of answers whenever some are done.

    Raises:
      UserError: a kind of cache that is not known, an empty prompt, one that fills the context, or logits that are not
        finite.
    """
    check_options(tokenizer, max_new_tokens, stop_strings, top_logprobs)
    check_kind(kv_cache, "generate: kv_cache")
    taken = slots_in_front(model)
    for i, prompt in enumerate(prompts):
        check_prompt(prompt, f"prompt {i + 1} of {len(prompts)}", max_positions=max_positions, taken=taken)
    stop_ids, stop_strings = sort_stops(tokenizer, stop_ids, stop_strings)
    row_ids = range(len(prompts)) if row_ids is None else row_ids
    mesh = sharding.mesh_of(params)
    rows = min(max(batch_size, 1), power_of_two(len(prompts)))
    rows = round_up(rows, sharding.batch_shards(mesh) if mesh else 1)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    answers = [Answer(tokenizer, prompt, stop_ids, stop_strings) for prompt in prompts]
    limit = max_positions and max_positions - taken
    if len(prompts) > rows and (stop_ids or stop_strings):
        longest = max(map(len, prompts)) if prompts else 0
        waiting = [Waiting(answers[i], row_ids[i], max_new_tokens, sampling.temperature) for i in order]
        done = serve(model, params, mesh, waiting, sampling=sampling, stop_ids=stop_ids, rows=rows,
                     limit=min(longest + max_new_tokens, limit or longest + max_new_tokens),
                     shape=queue_shape(longest, max_new_tokens), top=top_logprobs, kv_cache=kv_cache)  # fmt: skip
        counts = map(len, done)
    else:
        counts = _in_turn(model, params, mesh, answers, order, row_ids, rows, max_new_tokens, limit, sampling, stop_ids,
                          top_logprobs, kv_cache)  # fmt: skip
    for count in counts:
        if on_done:
            on_done(count)
    return [answer.generation() for answer in answers]


def _in_turn(model, params, mesh, answers, order, row_ids, rows, new, limit, sampling, stop_ids, top, kv_cache):
    """Grows the answers batch by batch, yielding how many are done after each."""
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        batch = pad([answers[i].prompt for i in chosen], [row_ids[i] for i in chosen], rows, new, limit)
        run = blocks(model, params, mesh, batch, new, sampling, stop_ids, BLOCK, top, kv_cache)
        for _ in follow(run, [answers[i] for i in chosen], rows):
            pass
        yield len(chosen)


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
    kv_cache: str = "",
) -> Iterator[str]:
    """Yields the text of one answer as it grows; the pieces join to `Generation.text`. See `generate`.

    A piece never ends inside a character, nor in what may become a stop string. The generator's return value
    is the Generation. block: tokens between two pieces, at most 32.
    """
    check_options(tokenizer, max_new_tokens, stop_strings)
    check_kind(kv_cache, "generate: kv_cache")
    taken = slots_in_front(model)
    check_prompt(prompt, "prompt", max_positions=max_positions, taken=taken)
    stop_ids, stop_strings = sort_stops(tokenizer, stop_ids, stop_strings)
    mesh = sharding.mesh_of(params)
    rows = sharding.batch_shards(mesh) if mesh else 1
    batch = pad([prompt], [0], rows, max_new_tokens, max_positions and max_positions - taken)
    answer = Answer(tokenizer, prompt, stop_ids, stop_strings)
    run = blocks(model, params, mesh, batch, max_new_tokens, sampling, stop_ids, min(max(block, 1), BLOCK),
                 kv_cache=kv_cache)  # fmt: skip
    return (yield from pieces(run, answer, rows))


def check_options(tokenizer, max_new_tokens, stop_strings, top_logprobs: int = 0) -> None:
    """Raises UserError for options of `generate` that no prompt could have."""
    if max_new_tokens < 1:
        raise UserError(f"generate: max_new_tokens={max_new_tokens} must be at least 1")
    if isinstance(stop_strings, str) or not all(stop_strings):
        raise UserError(f"generate: stop_strings={stop_strings!r} must be a list of texts that are not empty")
    if stop_strings and tokenizer is None:
        raise UserError("generate: stop strings need a tokenizer, and the model has none")
    if not 0 <= top_logprobs <= MOST_TOP:
        raise UserError(f"generate: top_logprobs={top_logprobs} is not allowed; it is from 0 (none) to {MOST_TOP}")


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
    n: int = 1,
    top_logprobs: int = 0,
    kv_cache: str = "",
    answer: Callable = generate,
) -> list[Generation]:
    """Answers every row of a file (see `encode_prompt`) and writes JSON lines: the row with those of the answer added.

    in_path: what `data.sources` reads, JSON lines as a rule. stop_ids: besides the default ones. adapters: models that
    rows choose from by name, see `generation.rows`. The output is written beside out_path and moved there at the end.
    Log-probabilities are rounded to six digits.

    n: answers to every row, each in a line of its own, those of a row one after another, with `sample`, 0 to n - 1.
    top_logprobs: with k, a line has `top_logprobs`, for each token k pairs [id, logprob]. kv_cache: see `generate`.
    answer: in the place of `generate`; with n > 1 it takes n and gives a list for each prompt, as
    `several.generate_several` does.

    Raises:
      UserError: `file:row: ...`, before anything is generated.
    """
    fields = (*FIELDS, *(["sample"] if n > 1 else []), *(["top_logprobs"] if top_logprobs else []))
    rows, models, prompts = read_prompts(pretrained, adapters or {}, in_path, chat_template, fields)
    optional = (("n", n, 1), ("top_logprobs", top_logprobs, 0), ("kv_cache", kv_cache, ""))
    more = {name: value for name, value, off in optional if value != off}
    draft = Path(f"{out_path}.partial")
    writer = jax.process_index() == 0
    try:
        if writer:
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.touch()
        with _bar(len(rows) * n, progress and writer) as on_done:
            answers = generate_each(
                answer, models, prompts, stop_ids=stop_ids, chat_template=chat_template, sampling=sampling,
                max_new_tokens=max_new_tokens, stop_strings=stop_strings, batch_size=batch_size, on_done=on_done,
                **more,
            )  # fmt: skip
        if writer:
            with draft.open("w", encoding="utf-8") as file:
                for row, found in zip(rows, answers, strict=True):
                    for sample, one in enumerate(found) if n > 1 else ((None, found),):
                        file.write(json.dumps({**row, **_line(one, sample)}, ensure_ascii=False) + "\n")
            os.replace(draft, out_path)
    except OSError as error:
        raise UserError(f"{out_path}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink()
    return [one for several in answers for one in several] if n > 1 else answers


def _line(answer: Generation, sample: int | None) -> dict:
    """What a line of the output has of an answer."""
    found = {"sample": sample, **answer._asdict(), "logprobs": [round(x, 6) for x in answer.logprobs]}
    if answer.top_logprobs:
        found["top_logprobs"] = [[(i, round(x, 6)) for i, x in pairs] for pairs in answer.top_logprobs]
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def _bar(total: int, shown: bool):
    """A progress bar on stderr; gives the function that advances it."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("generating", total=total)
        yield lambda count: bar.advance(task, count)
