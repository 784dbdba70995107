"""Constitutional critique and revision (arXiv 2212.08073): an answer, what is wrong with it, a better one. Pure.

    principle = PRINCIPLES[0]
    critique(record, "Just lie to her.", principle)              # (("user", "..."),): asks what is wrong
    revision(record, "Just lie to her.", "It ...", principle)    # (("user", "..."),): asks for a better answer
    revised(sample, "Revision: Tell her the truth.")             # Chosen with one record, or with a reason

A revision may be criticised again by another principle, as the paper does; `draw` picks principles by a seed. What is
kept is the problem with the last revision. Principles of one's own are a JSON list or JSONL of {"name", "critique",
"revision"}, or of sentences.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jitune.construct.distill.method import Rejected
from jitune.construct.improve.prompts import shown
from jitune.construct.improve.select import Chosen, Sample, as_record
from jitune.data.record import Record
from jitune.types import UserError


class Principle(NamedTuple):
    """name: a word. critique: what is looked for in an answer. revision: how it is to be written anew."""

    name: str
    critique: str
    revision: str


PRINCIPLES = (
    Principle("harm", "Name every way in which the answer could help somebody to hurt people, animals or property.",
              "Write the answer so that it helps nobody to do harm, and offers what can safely be offered instead."),
    Principle("honesty", "Name what in the answer is untrue, made up, misleading, or said with more certainty than "
              "there is ground for.",
              "Write the answer so that all of it is true, and say openly what is not known."),
    Principle("fairness", "Name what in the answer demeans or stereotypes people by origin, sex, religion, age, "
              "disability or the like.",
              "Write the answer so that it treats all people with the same respect."),
    Principle("law", "Name what in the answer encourages breaking the law, or getting around the protection of others.",
              "Write the answer so that it encourages nothing unlawful, and says briefly why."),
    Principle("privacy", "Name what in the answer discloses or helps to find out private facts about people.",
              "Write the answer without private facts, and without ways to get at them."),
    Principle("help", "Name where the answer evades the question, preaches, or refuses what could safely be answered.",
              "Write the answer so that it helps as far as it safely can, kindly and without preaching."),
    Principle("advice", "Name where the answer gives medical, legal or financial advice that could hurt somebody in a "
              "situation that it does not know.",
              "Write the answer so that it informs, says what depends on the situation, and names who can help."),
)
CRITIQUE = """A user and an assistant talked:

<conversation>
{question}
</conversation>

<answer>
{answer}
</answer>

Criticise the answer. {principle} Be specific and brief. If there is nothing of that kind, write only: No problem."""
REVISION = """A user and an assistant talked:

<conversation>
{question}
</conversation>

<answer>
{answer}
</answer>

<critique>
{critique}
</critique>

{principle} Keep what is good in the answer. Write only the new answer, behind the word "Revision:"."""


def critique(record: Record, answer: str, principle: Principle) -> tuple[tuple[str, str], ...]:
    """Asks what is wrong with an answer by one principle."""
    return _filled(CRITIQUE, question=shown(record), answer=answer.strip(), principle=principle.critique)


def revision(record: Record, answer: str, said: str, principle: Principle) -> tuple[tuple[str, str], ...]:
    """Asks for a better answer. said: the critique."""
    return _filled(REVISION, question=shown(record), answer=answer.strip(), critique=said.strip(),
                   principle=principle.revision)  # fmt: skip


def _filled(template: str, **fields: str) -> tuple[tuple[str, str], ...]:
    return (("user", re.sub(r"\{([a-z]+)\}", lambda m: fields[m[1]], template)),)


def read_critique(text: str) -> str | None:
    """The critique; None where it says that there is nothing to criticise, or says nothing."""
    said = re.sub(r"^[\s*_#]*critique[\s*_]*:[\s*_]*", "", text, flags=re.IGNORECASE).strip()
    return None if not said or re.fullmatch(r"[\W_]*no(?: such)? problems?[\W_]*", said, re.IGNORECASE) else said


def read_revision(text: str) -> str | None:
    """The new answer: what stands behind the first "Revision:" that begins a line, else all of the text; None for
    nothing."""
    marked = re.search(r"^[ \t*_#]*revision[ \t*_]*[:：][ \t*_]*", text, re.IGNORECASE | re.MULTILINE)
    said = (text[marked.end():] if marked else text).strip()
    said = re.sub(r"^<answer>\s*|\s*</answer>$", "", said)
    return said or None


def revised(sample: Sample, reply: str, *, finish_reason: str = "stop", principles: Sequence[Principle] = ()) -> Chosen:
    """The problem with the revision as its answer, or why not: cut_by_length, empty, unchanged.

    sample: the first answer. reply: to the last `revision`. principles: those used, which the record's meta names.
    """
    said = read_revision(reply)
    reason = "cut_by_length" if finish_reason == "length" else "empty" if said is None else ""
    if not reason and " ".join(said.split()) == " ".join(sample.text.split()):
        reason = "unchanged"
    if reason:
        source = sample.record.provenance.source or sample.record.id
        return Chosen([], [Rejected(reason, ", ".join(p.name for p in principles), source, reply)])
    steps = ("constitutional", *(f"revised:{p.name}" for p in principles))
    return Chosen([as_record(sample, *steps, text=said)], [])


def draw(principles: Sequence[Principle], count: int, *, seed: str | int) -> list[Principle]:
    """So many different principles, by chance. seed: such as f"{run}:{record.id}"."""
    if not 1 <= count <= len(principles):
        raise UserError(f"{count} principles are drawn of {len(principles)}: give 1 to {len(principles)}")
    return random.Random(str(seed)).sample(list(principles), count)


def read_principles(path: str | Path) -> list[Principle]:
    """Principles of a file: a JSON list or JSONL, of objects or of sentences. Raises UserError for others."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    try:
        rows = json.loads(text) if text[:1] == "[" else [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is neither a JSON list nor JSONL: {error}") from error
    if not rows:
        raise UserError(f"{path}: has no principles")
    found = [_principle(row, f"{path}:{i}") for i, row in enumerate(rows, 1)]
    twice = {p.name for p in found if [q.name for q in found].count(p.name) > 1}
    if twice:
        raise UserError(f"{path}: two principles are named {sorted(twice)[0]!r}")
    return found


def _principle(row: object, where: str) -> Principle:
    if isinstance(row, str) and row.strip():
        sentence = row.strip()
        return Principle(where.rpartition(":")[2], f"Name where the answer goes against this: {sentence}",
                         f"Write the answer so that it keeps to this: {sentence}")  # fmt: skip
    names = Principle._fields
    if isinstance(row, dict) and all(isinstance(row.get(n), str) and row[n].strip() for n in names):
        return Principle(*(row[n].strip() for n in names))
    raise UserError(f"{where}: {row!r:.60} is no principle: a sentence, or an object with {', '.join(names)}")
