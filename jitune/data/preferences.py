"""Preferences in, records with a chosen and a rejected answer out, or with ranked candidates, or with a label.

    row = {"prompt": "2 and 3?", "chosen": "5", "rejected": "6"}
    [record] = pairs(row, ("a.json", 1), Counter(), {})
    record.messages, record.chosen, record.rejected         # each of one message: "2 and 3?", "5", "6"

| shape | columns |
|---|---|
| HH (Bai et al. 2022) | chosen and rejected, each a dialogue in one text, "\\n\\nHuman: Hi\\n\\nAssistant: Hello" |
| DPO | chosen and rejected: texts, messages or lists of them, after prompt, messages or conversations |
| implicit prompt (TRL) | chosen and rejected alone: what they begin with alike is the prompt |
| two outputs (LLMBar) | input, output_1, output_2, label 1 or 2; or answer_a, answer_b and so on |
| judged chats (MT-Bench) | conversation_a, conversation_b, winner model_a or model_b |
| ranking | a prompt and a list of answers, with a rank or score of each |
| KTO | messages or prompt and completion, label true or false |

Two answers that are the same, and ties, say nothing about what is preferred: such rows are dropped and counted.
Texts of a prompt become the user's message, texts of answers the assistant's.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from jitune.data import formats
from jitune.data.record import Candidate, Record, from_example, named
from jitune.data.row_parts import (
    CONTEXTS,
    CONVERSATIONS,
    PROMPTS,
    Drop,
    Messages,
    Origin,
    Reader,
    as_messages,
    first,
    say,
    source,
    without,
)
from jitune.types import UserError

# Where HH's texts change speaker; each of its dialogues begins with the first.
TURN = re.compile(r"\n\n(Human|Assistant):")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
# Columns of the first and the second of two answers, and of which is better.
OUTPUTS = (("output_1", "output_2"), ("output1", "output2"), ("response_1", "response_2"),
           ("response_a", "response_b"), ("answer_a", "answer_b"), ("conversation_a", "conversation_b"))
VERDICTS = ("label", "winner", "preference")
FIRST = (1, "1", "model_a", "a", "A")
SECOND = (2, "2", "model_b", "b", "B")
TIES = (0, "0", "tie", "tie (bothbad)", "tie (both bad)", "both")
ANSWERS = ("responses", "completions", "answers", "outputs", "candidates")
ANSWER_TEXTS = ("answer", "response", "completion", "text", "content", "output")
TOOLS = {"tools", "functions"}
SCORES = ("score", "overall_score", "rating")


def is_pair(row: Mapping) -> bool:
    """Whether a row has a chosen and a rejected answer."""
    return {"chosen", "rejected"} <= set(row)


def pairs(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str]) -> Iterator[Record | Drop]:
    """A record of a chosen and a rejected answer, in HH's, TRL's or LLaMA-Factory's shape."""
    chosen, rejected, used = row["chosen"], row["rejected"], {"chosen", "rejected"}
    before, key = (), first(row, (*CONVERSATIONS, *PROMPTS, *CONTEXTS))
    if key:
        before, more = _before(row)
        used |= more
    elif isinstance(chosen, str) and isinstance(rejected, str):
        chosen, rejected = _texts(chosen, rejected, notes)
    a, b = as_messages(chosen, "'chosen'"), as_messages(rejected, "'rejected'")
    a, b = _after(a, before), _after(b, before)
    if before and a and a[0]["role"] in ("user", "system") and before[-1]["role"] == "user":
        before, used = (), {"chosen", "rejected"}  # the lists hold a question of their own, which counts
    if not before:
        before, a, b = _split(a, b, notes)
    yield _pair(row, before, a, b, used, origin, notes)


def is_two_outputs(row: Mapping) -> bool:
    """Whether a row has two answers, in columns of their own, and says which is better."""
    return any(set(two) <= set(row) for two in OUTPUTS) and any(key in row for key in VERDICTS)


def two_outputs(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str]) -> Iterator[Record | Drop]:
    """A record of two outputs and a label (LLMBar), or of two judged conversations (MT-Bench)."""
    one, two = next(keys for keys in OUTPUTS if set(keys) <= set(row))
    key = next(key for key in VERDICTS if key in row)
    verdict = row[key]
    if isinstance(verdict, bool) or verdict not in (*FIRST, *SECOND, *TIES):
        raise UserError(f"{key}={verdict!r}: is none of {FIRST[0]}, {SECOND[0]}, {FIRST[2]}, {SECOND[2]}, {TIES[2]}")
    if verdict in TIES:
        yield Drop("tie", f"{key} is {verdict!r}", origin, fault=False)
        return
    a, b = as_messages(row[one], f"'{one}'"), as_messages(row[two], f"'{two}'")
    before, used = ((), set()) if one == "conversation_a" else _before(row)
    if not before:
        before, a, b = _split(a, b, notes)
    if verdict in SECOND:
        a, b = b, a
    yield _pair(row, before, a, b, {one, two, key} | used, origin, notes)


def is_kto(row: Mapping) -> bool:
    """Whether a row is an answer with a label, true or false."""
    if not isinstance(row.get("label"), (bool, str)) or str(row["label"]).lower() not in ("true", "false"):
        return False
    return bool({"completion", "response", *CONVERSATIONS[:2]} & set(row))


def kto(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str]) -> Iterator[Record]:
    """A record of a conversation, or of a prompt and a completion, that is wanted or not (Ethayarajh et al. 2024)."""
    rest = {key: value for key, value in row.items() if key != "label"}
    name = formats.detect(rest)
    record = from_example(formats.to_example(rest, origin, format=name))
    used = {"label", "prompt", "completion", "response", "system", "tools", "functions", *CONVERSATIONS[:2]}
    yield named(replace(record, id="", label=str(row["label"]).lower() == "true", meta=without(row, used)))


def is_ranking(row: Mapping) -> bool:
    """Whether a row is a prompt with a list of answers that are ranked or scored."""
    key = first(row, ANSWERS)
    items = row.get(key) if key else None
    if not isinstance(items, list) or not first(row, (*CONVERSATIONS, *PROMPTS)):
        return False
    if any(isinstance(row.get(name), list) for name in ("ranks", "scores")):
        return True
    return any(isinstance(item, Mapping) and first(item, ("rank", *SCORES)) for item in items)


def ranking(row: Mapping, origin: Origin, notes: Counter, fields: Mapping[str, str]) -> Iterator[Record]:
    """A record of a prompt and its answers, each with its rank (the smallest is best) or score (the largest is).

    Answers are texts or objects with answer, response, completion, text, content or output, and rank or score; or
    the columns `ranks` and `scores` hold those of each.
    """
    key = first(row, ANSWERS)
    before, used = _before({name: value for name, value in row.items() if name != key})
    items = [item if isinstance(item, Mapping) else {"text": item} for item in row[key]]
    columns = {name: row[column] for name, column in (("rank", "ranks"), ("score", "scores")) if row.get(column)}
    for name, values in columns.items():
        if not isinstance(values, list) or len(values) != len(items):
            raise UserError(f"'{name}s' must hold one number for each of the {len(items)} of '{key}'")
        items = [{**item, name: value} for item, value in zip(items, values, strict=True)]
    ranks = [_number(item.get("rank"), "'rank'") for item in items]
    order = sorted({rank for rank in ranks if rank is not None})  # from 1 or from 0, with or without gaps
    candidates = tuple(
        Candidate(as_messages(item.get(first(item, ANSWER_TEXTS)), f"'{key}' item {number}"),
                  None if rank is None else order.index(rank), _number(item.get(first(item, SCORES)), "'score'"),
                  str(item.get("id", item.get("model", ""))))
        for number, (item, rank) in enumerate(zip(items, ranks, strict=True), 1))
    yield named(Record("", before, formats.read_tools(row), candidates=candidates,
                       meta=without(row, {key, "ranks", "scores"} | used | TOOLS), provenance=source(origin)))


def split_dialogue(text: str) -> Messages | None:
    """The messages of a dialogue as HH writes it, or None where the text is none.

    Example: "\\n\\nHuman: Hi\\n\\nAssistant: Hello" -> (user: Hi, assistant: Hello).
    """
    parts = TURN.split(text)
    if parts[0].strip() or len(parts) < 3:
        return None
    turns = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(message for speaker, said in turns for message in say(SPEAKERS[speaker], said.strip()))


def _texts(chosen: str, rejected: str, notes: Counter) -> tuple[Any, Any]:
    """Both as messages: dialogues, or what two texts begin with alike as the user's (TRL's implicit prompt)."""
    a, b = split_dialogue(chosen), split_dialogue(rejected)
    if a and b:
        return a, b
    shared = os.path.commonprefix((chosen, rejected))
    if len(shared) < min(len(chosen), len(rejected)):
        shared = shared[: max(shared.rfind(" "), shared.rfind("\n")) + 1]  # words stay whole
    if not shared.strip() or chosen == rejected:
        return say("assistant", chosen), say("assistant", rejected)
    notes["implicit_prompt"] += 1
    start = say("user", shared.rstrip())
    return tuple(start + say("assistant", text[len(shared.rstrip()):]) for text in (chosen, rejected))


def _before(row: Mapping) -> tuple[Messages, set[str]]:
    """The messages before the answers, and the columns that they are made of."""
    used, found = {"system"} & set(row), ()
    key = first(row, CONVERSATIONS)
    if key:
        found = as_messages(row[key], f"'{key}'", role="user")
        used |= {key} | ({"prompt"} & set(row))  # some files hold the last question once more
    else:
        key, more = first(row, PROMPTS), first(row, CONTEXTS)
        key, more = (key, more) if key else (more, None)
        if key is None:
            return (), used
        found = as_messages(row[key], f"'{key}'", role="user")
        used |= {key}
        dialogue = split_dialogue(row[key]) if isinstance(row[key], str) else None
        if dialogue:  # it may end with the "Assistant:" that the answer goes on after
            found = dialogue if dialogue[-1]["content"] else dialogue[:-1]
        elif more and isinstance(row[key], str) and isinstance(row[more], str):
            found, used = say("user", f"{row[key]}\n\n{row[more]}"), used | {more}
    system = row.get("system")
    if system and found[0]["role"] == "system":
        raise UserError(f"two system prompts: the column 'system' and the first of '{key}'")
    return (say("system", system) + found if system else found), used


def _after(answer: Messages, before: Messages) -> Messages:
    """An answer without the prompt, where it repeats that."""
    return answer[len(before):] if before and answer[: len(before)] == before else answer


def _split(a: Messages, b: Messages, notes: Counter) -> tuple[Messages, Messages, Messages]:
    """What both begin with, and the rest of each, which is one message at least."""
    same = 0
    while same < min(len(a), len(b)) - 1 and a[same] == b[same]:
        same += 1
    notes["differing_prefixes"] += len(a) > same + 1 or len(b) > same + 1
    return a[:same], a[same:], b[same:]


def _pair(row: Mapping, before: Messages, a: Messages, b: Messages, used: set, origin: Origin,
          notes: Counter) -> Record | Drop:
    if not a or not b:
        return Drop("no_answer", "one of the two has no message after the prompt", origin)
    if a == b:
        return Drop("same_answers", "the chosen answer and the rejected one are the same", origin, fault=False)
    if not before:
        return Drop("no_prompt", "the chosen answer and the rejected one have no prompt in common", origin)
    unlike = [name for name, part in (("chosen", a), ("rejected", b)) if part[-1]["role"] != "assistant"]
    if unlike:
        return Drop("no_answer", f"'{unlike[0]}' does not end with the assistant's answer", origin)
    notes["out_of_turn"] += any(one["role"] == two["role"] != "tool" for answer in (a, b)
                                for one, two in pairwise((*before, *answer)))
    notes["empty_answers"] += not (a[-1]["content"] and b[-1]["content"])
    return named(Record("", before, formats.read_tools(row), chosen=a, rejected=b, meta=without(row, used | TOOLS),
                        provenance=source(origin)))


def _number(value: Any, what: str) -> float | None:
    if value is None:
        return None
    plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    try:
        found = float(value) if plain else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"{what} must be a number, got {value!r:.60}")
    return found


# Asked in this order; the first that knows a row reads it.
READERS = {
    "two_outputs": Reader(is_two_outputs, two_outputs, "output_1, output_2, label", renames=True),
    "pairs": Reader(is_pair, pairs, "chosen, rejected", renames=True),
    "kto": Reader(is_kto, kto, "messages or prompt and completion, with a true/false label", renames=True),
    "ranking": Reader(is_ranking, ranking, "prompt, and answers with ranks or scores", renames=True),
}


def check_known(row: Mapping) -> None:
    """Raises UserError for a row that is neither a preference nor an example of any format."""
    try:
        formats.detect({key: value for key, value in row.items() if key != "label"})
    except UserError:
        known = "; ".join(f"{name} ({reader.keys})" for name, reader in READERS.items())
        raise UserError(f"no known format of preferences: the row has keys {list(row)}; known are {known}; rename "
                        "columns with fields, or name a function of your own as module:function") from None
