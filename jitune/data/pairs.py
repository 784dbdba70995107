"""Preferences as documents: pairs of answers, or answers with a label, as tokens that say which side they are on.

In: the data section of a config, whose files hold preferences in any shape of `preferences`, or jitune's records. Out:
`Prepared`, whose units are two documents each; see `pipeline.Documents` and `types.Batch`.

    prepared = prepare_pairs(config.data, tokenizer, seq_len=2048, objective="dpo")
    prepared.sources[0][0]      # {"tokens": prompt, wanted answer, prompt, unwanted answer; "sides": 1 1 .. -1 -1 ..}

Only the answers are trained: what the assistant says after the messages that both have in common. For KTO a unit is an
answer with its label, and its prompt with the answer to another one. A unit has the room of one row: its two documents
together have at most `seq_len` tokens. What cannot be used is counted in the notes of the statistics, with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from jitune.data import chat, formats
from jitune.data.chat import Rendered
from jitune.data.pipeline import CHUNK, Documents, Prepared, parse_fields, parse_weights, summary
from jitune.data.preferences import READERS, check_known
from jitune.data.record import Record, origin_of
from jitune.data.record_rows import from_row, is_record
from jitune.data.row_parts import Drop, Messages
from jitune.data.sources import split_specs
from jitune.data.streams import stream
from jitune.types import MISMATCHED, DataStats, Example, UserError

OBJECTIVES = ("dpo", "simpo", "orpo", "kto")
# What a reader notes by one word, for people to read.
WORDS = {
    "implicit_prompt": "prompts found as what both answers begin with",
    "differing_prefixes": "answers of more than one message",
    "out_of_turn": "conversations in which a role speaks twice in a row",
    "tie": "a tie", "same_answers": "both answers are the same", "no_prompt": "there is no prompt in common",
    "no_answer": "an answer is missing or not the assistant's", "empty": "an answer is empty",
    "no_preference": "there are neither two answers nor a label", "no_pair": "a label alone makes no pair",
    "no_ranks": "fewer than two candidates have ranks or scores", "alike": "both answers have the same tokens",
    "too_long": "the two answers do not fit a row", "untrained": "nothing of what fits is trained",
    "no_other": "there is no other prompt's answer to compare with",
}  # fmt: skip


class Side(NamedTuple):
    """An answer with the conversation before it; wanted: 1 or -1."""

    example: Example
    wanted: int


def prepare_pairs(config, tokenizer, seq_len: int, *, objective: str = "dpo", eval=False) -> Prepared:
    """Reads, renders and fits all preferences.

    Args:
      config: the data section: train, eval, weights, format (auto, jitune, pairs, two_outputs, kto, ranking,
        `module:function`, which gives Records), fields, chat_template, train_on (assistant: all that the assistant says
        in an answer; last: its last message), overlong.
      objective: for kto units are answers with a label, for all others pairs. Pairs serve KTO as two answers each;
        of ranked candidates the best and the worst are a pair.
      eval: reads `config.eval`, without weights.

    overlong: units of more than `seq_len` tokens are dropped, or their longer document, or both, are truncated to one
    length, so that prompts stay. A mismatched answer is cut to what room its labelled one leaves.

    Raises:
      UserError: a source or a row that cannot be read or rendered, or a source with nothing to train on.
    """
    _check(config, objective)
    name = "eval" if eval else "train"
    specs = split_specs(config[name])
    if not specs:
        raise UserError(f"data: --config.data.{name} names no data")
    weights = None if eval else parse_weights(config.weights, specs)
    template = chat.load_template(config.chat_template, tokenizer=tokenizer) if config.chat_template else None
    render = partial(chat.render_all, tokenizer, train_on=config.train_on, chat_template=template)
    units, take = (labelled, as_answers) if objective == "kto" else (paired, as_pair)
    stats, sources = DataStats(), []
    for spec in specs:
        records = read_preferences(spec, format=config.format, fields=config.fields, stats=stats)
        sides = (take(record, stats, config.train_on) for record in records)
        fitted = (fit_unit(unit, seq_len, config.overlong, stats) for unit in units(sides, render, stats))
        sources.append(_documents(unit for unit in fitted if unit))
        if not len(sources[-1]):
            raise UserError(f"data: {spec} leaves nothing to train on. {summary(stats, name=name)}")
    return Prepared(tuple(sources), weights, stats)


def _check(config, objective: str) -> None:
    if objective not in OBJECTIVES:
        raise UserError(f"objective: {objective!r} does not learn from preferences; {', '.join(OBJECTIVES)} do")
    for option, allowed in (("train_on", ("assistant", "last")), ("overlong", ("drop", "truncate")),
                            ("split_turns", (False,))):  # fmt: skip
        if config[option] not in allowed:
            options = " or ".join(map(str, allowed))
            raise UserError(f"data: {option}={config[option]!r} has no meaning for {objective}; it takes {options}")


def read_preferences(spec: str, *, format="auto", fields="", stats: DataStats) -> Iterator[Record]:
    """Yields the records of one source; rows that say nothing about what is preferred are counted in `stats`.

    Raises:
      UserError: `file:row: what is wrong`.
    """
    columns, function = parse_fields(fields), None
    if format not in ("auto", "jitune", *READERS):
        if ":" not in format:
            raise UserError(f"unknown format '{format}' of preferences; known: auto, jitune, {', '.join(READERS)}, "
                            "module:function")  # fmt: skip
        function = formats.load_format(format)
    for row, origin in stream([spec]):
        notes: Counter = Counter()
        try:
            found = list(_read(formats.plain(row), origin, notes, format, columns, function))
        except UserError as error:
            place = f"{origin[0]}:{origin[1]}: "
            raise UserError(f"{place}{str(error).removeprefix(place)}") from error
        for word, count in (+notes).items():
            if word in WORDS:
                _note(stats, WORDS[word], count)
        for one in found:
            if isinstance(one, Drop):
                drop(stats, one.reason)
            else:
                yield one


def _read(row: dict, origin, notes: Counter, format: str, columns: dict, function) -> Iterator[Record | Drop]:
    if function:
        found = function(row)
        found = [found] if isinstance(found, Record) else list(found)
        wrong = next((one for one in found if not isinstance(one, Record)), None)
        if wrong is not None:
            raise UserError(f"format '{format}' returned {type(wrong).__name__}, not a Record")
        yield from found
        return
    if format == "jitune" or format == "auto" and is_record(row):
        yield from_row(row, origin)
        return
    row = formats.renamed(row, columns) if columns else row
    fitting = (name for name, reader in READERS.items() if format == name or format == "auto" and reader.detects(row))
    name = next(fitting, None)
    if name:
        if not READERS[name].detects(row):
            raise UserError(f"is no row of the format {name}, whose rows have {READERS[name].keys}")
        yield from READERS[name].read(row, origin, notes, columns)
        return
    check_known(row)
    yield Drop("no_preference", WORDS["no_preference"], origin)


def as_pair(record: Record, stats: DataStats, train_on: str = "assistant") -> tuple[Side, ...]:
    """The wanted and the unwanted answer of a record, or none, which is counted."""
    chosen, rejected = record.chosen, record.rejected
    if not chosen and not rejected and record.candidates:
        chosen, rejected, reason = best_and_worst(record)
        if reason:
            return drop(stats, reason)
    if not chosen and not rejected:
        return drop(stats, "no_preference" if record.label is None else "no_pair")
    reason = _unusable(record.messages, chosen) or _unusable(record.messages, rejected)
    if reason or chosen == rejected:
        return drop(stats, reason or "same_answers")
    return tuple(Side(_example(record, record.messages, answer, train_on), wanted)
                 for answer, wanted in ((chosen, 1), (rejected, -1)))  # fmt: skip


def as_answers(record: Record, stats: DataStats, train_on: str = "assistant") -> tuple[Side, ...]:
    """The answers of a record with what people say of them: that of its label, or both of a pair."""
    if record.chosen or record.rejected or record.candidates:
        return as_pair(record, stats, train_on)
    if record.label is None:
        return drop(stats, "no_preference")
    wanted = 1 if record.label else -1
    if record.text:
        if len(record.text) != 2 or not all(piece.strip() for piece, _ in record.text):
            return drop(stats, "no_prompt" if len(record.text) != 2 else "empty")
        return (Side(Example(text=record.text, origin=origin_of(record)), wanted),)
    roles = [message["role"] for message in record.messages]
    asked = [i for i, role in enumerate(roles) if role == "user"]
    start = asked[-1] + 1 if asked else 0
    before, answer = record.messages[:start], record.messages[start:]
    reason = _unusable(before, answer)
    return drop(stats, reason) if reason else (Side(_example(record, before, answer, train_on), wanted),)


def best_and_worst(record: Record) -> tuple[Messages, Messages, str]:
    """The best and the worst of ranked or scored candidates, and why there are none, or ""."""
    ranked = [(-one.rank, one) for one in record.candidates if one.rank is not None]
    scored = [(one.score, one) for one in record.candidates if one.score is not None]
    judged = sorted(ranked if len(ranked) >= len(scored) else scored, key=lambda pair: pair[0])
    if len(judged) < 2:
        return (), (), "no_ranks"
    if judged[0][0] == judged[-1][0]:
        return (), (), "tie"
    return judged[-1][1].messages, judged[0][1].messages, ""


def _unusable(before: Messages, answer: Messages) -> str:
    """Why an answer cannot be trained, or ""."""
    if not answer or answer[-1]["role"] != "assistant":
        return "no_answer"
    if not before:
        return "no_prompt"
    last = answer[-1]
    said = last["content"].strip() or last.get("tool_calls") or last.get("reasoning_content")
    return "" if said else "empty"


def _example(record: Record, before: Messages, answer: Messages, train_on: str) -> Example:
    """The conversation, of which only the answer is trained."""
    weights = [float(message["role"] == "assistant") for message in answer]
    weights = [0.0] * (len(weights) - 1) + weights[-1:] if train_on == "last" else weights
    return Example((*before, *answer), record.tools, (0.0,) * len(before) + tuple(weights), origin=origin_of(record))


def drop(stats: DataStats, reason: str) -> tuple:
    """Counts an example that cannot be used, by one word of `WORDS`; nothing is left of it."""
    stats.examples += 1
    stats.dropped_examples += 1
    _note(stats, f"dropped because {WORDS[reason]}")
    return ()


def _note(stats: DataStats, note: str, count: int = 1) -> None:
    stats.notes[note] = stats.notes.get(note, 0) + count


def _rendered(sides: Iterable[tuple[Side, ...]], render, stats: DataStats) -> Iterator[list[tuple[Rendered, int]]]:
    """The sides of each record as tokens."""
    sides = (some for some in sides if some)
    while some := list(islice(sides, CHUNK)):
        done = iter(render([side.example for side in chain.from_iterable(some)]))
        for one in some:
            rendered = [next(done) for _ in one]
            for note in {note for side in rendered for note in side.notes}:
                _note(stats, note)
            yield list(zip(rendered, (side.wanted for side in one), strict=True))


def paired(sides, render, stats: DataStats) -> Iterator[list[tuple[Rendered, int]]]:
    """Units of DPO: [(wanted answer, 1), (unwanted answer, -1)]."""
    for unit in _rendered(sides, render, stats):
        if np.array_equal(unit[0][0].tokens, unit[1][0].tokens):
            drop(stats, "alike")
        else:
            yield unit


def labelled(sides, render, stats: DataStats) -> Iterator[list[tuple[Rendered, int]]]:
    """Units of KTO: [(answer, 1 or -1), (its prompt with another's answer, MISMATCHED)].

    The other answer is that of the last example before it whose prompt and answer are others, the first one's that
    of the end: TRL's shift by one, over a whole source.
    """
    found = list(chain.from_iterable(_rendered(sides, render, stats)))
    starts = [int(np.flatnonzero(one.loss_weights)[0]) for one, _ in found]
    prompts = _numbered(one.tokens[:start] for (one, _), start in zip(found, starts, strict=True))
    endings = _numbered(one.tokens[start:] for (one, _), start in zip(found, starts, strict=True))
    for i, ((one, wanted), other) in enumerate(zip(found, find_others(prompts, endings), strict=True)):
        if other is None:
            drop(stats, "no_other")
            continue
        theirs, begin = found[other][0], starts[other]
        tokens = np.concatenate([one.tokens[: starts[i]], theirs.tokens[begin:]])
        weights = np.concatenate([one.loss_weights[: starts[i]], theirs.loss_weights[begin:]])
        yield [(one, wanted), (one._replace(tokens=tokens, loss_weights=weights), MISMATCHED)]


def _numbered(parts: Iterable[np.ndarray]) -> np.ndarray:
    """A number for each array, the same for the same."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(part.tobytes(), len(numbers)) for part in parts], np.int64)


def find_others(prompts: np.ndarray, endings: np.ndarray) -> Iterator[int | None]:
    """Of each example the nearest before it, going round at the first, whose prompt and answer differ from its own.

    prompts, endings: numbers [examples], as many as there are different ones. Example: of prompts 0 0 1 and answers
    0 1 2: 2, 2, 1. Those of one prompt that follow each other, as samples do, are passed in one jump.
    """
    count, places = len(prompts), np.arange(len(prompts))
    # The numbers, and for each where the run of equal ones begins that it lies in.
    alike = [(x.tolist(), np.maximum.accumulate(np.where(np.diff(x, prepend=-1) != 0, places, 0)).tolist())
             for x in (prompts, endings)]  # fmt: skip
    for i in range(count):
        at, begin = i, i  # at counts on below 0, while an index goes round
        while at > i - count:
            if (begin := next((first[at] for x, first in alike if x[at] == x[i]), None)) is None:
                break
            at -= at % count - begin + 1
        yield None if begin is not None else at % count


def fit_unit(unit: list[tuple[Rendered, int]], seq_len: int, policy: str, stats: DataStats) -> list | None:
    """The unit with at most `seq_len` tokens in all, counted in `stats`, or None where it is dropped.

    Truncated, its documents have one length at most: 10 and 40 tokens are 10 and 22 at a `seq_len` of 32, and 30 and 40
    are 16 and 16.
    """
    unit = _cut_mismatched(unit, seq_len)
    lengths = [len(one.tokens) for one, _ in unit]
    total, limit = sum(lengths), max(seq_len - min(lengths), seq_len // 2)
    if total > seq_len and policy == "drop":
        stats.dropped_tokens += total
        return drop(stats, "too_long") or None
    kept = unit if total <= seq_len else [(_shortened(one, limit), side) for one, side in unit]
    if not all(one.loss_weights[1:].any() for one, _ in kept):
        stats.dropped_tokens += total
        return drop(stats, "untrained") or None
    if np.array_equal(kept[0][0].tokens, kept[1][0].tokens):
        stats.dropped_tokens += total
        return drop(stats, "alike") or None
    left = sum(len(one.tokens) for one, _ in kept)
    stats.examples += 1
    stats.tokens += left
    stats.supervised_tokens += sum(int(np.count_nonzero(one.loss_weights[1:])) for one, _ in kept)
    stats.truncated_examples += left < total
    stats.truncated_tokens += total - left
    return kept


def _cut_mismatched(unit: list[tuple[Rendered, int]], seq_len: int) -> list[tuple[Rendered, int]]:
    """The unit with the mismatched answer, which only measures, cut to the room that is left, where one token fits."""
    (first, side), (second, other) = unit
    room = seq_len - len(first.tokens)
    if other != MISMATCHED or len(second.tokens) <= room or not second.loss_weights[1 : max(room, 1)].any():
        return unit
    return [(first, side), (_shortened(second, room), other)]


def _shortened(one: Rendered, length: int) -> Rendered:
    return one._replace(tokens=one.tokens[:length], loss_weights=one.loss_weights[:length])


def _documents(units: Iterable[list[tuple[Rendered, int]]]) -> Documents:
    tokens, weights, sides, offsets = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)], [np.zeros(0, np.int8)], [0]
    for unit in units:
        for one, side in unit:
            tokens.append(one.tokens)
            weights.append(one.loss_weights)
            sides.append(np.full(len(one.tokens), side, np.int8))
        offsets.append(offsets[-1] + sum(len(one.tokens) for one, _ in unit))
    return Documents(np.concatenate(tokens), np.concatenate(weights), np.array(offsets, np.int64),
                     np.concatenate(sides))  # fmt: skip
