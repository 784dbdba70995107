"""IFEval and M-IFEval: are instructions followed whose following a program can check?

Zhou et al., 2023, arXiv 2311.07911 (English), and Dussolle et al., 2025, arXiv 2502.04688 (Spanish, French, Japanese).
A row is a prompt, the ids of its instructions, and an object of arguments for each:

    {"key": 1001, "prompt": "... no commas ...", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}

Strict: the answer as it is. Loose: the answer, or it without its first line, its last line or both, with or without its
asterisks; one of these eight must follow. An empty answer follows nothing. A prompt is followed if all of its
instructions are; the metrics over instructions are shares of all instructions, as in the paper.

Languages of your own: `--tasks ifeval:module:NAME` with a `jitune.evals.instructions.language.Language`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jitune.evals import rows
from jitune.evals.instructions import table
from jitune.evals.instructions.detect import detect
from jitune.evals.instructions.language import Language
from jitune.evals.task import Document, Generate, Metric, Outcome, Response, Task, Verdict, chat
from jitune.types import UserError

# The longest answer that the prompts ask for is of some 1,200 words.
MAX_NEW_TOKENS = 1280


def load(specs: Sequence[str], *, languages: Mapping[str, Language] | None = None) -> list[Document]:
    """One document a prompt. Tags: `language` of the prompt, `group` of its instructions, how many `instructions`.

    Raises:
      UserError: with file and row, for an instruction that does not exist or whose arguments are not its own.
    """
    languages, documents, places = languages or table.known(), [], {}
    for row, where in rows.read(specs):
        document = _document(row, where, languages)
        if document.id in places:
            raise UserError(f"{where}: key {row['key']!r} was at {places[document.id]} already")
        places[document.id] = where
        documents.append(document)
    return documents


def _document(row: dict, where: str, languages: Mapping[str, Language]) -> Document:
    key = rows.need(row, "key", where, (int, str))
    prompt = rows.need(row, "prompt", where)
    ids = rows.need(row, "instruction_id_list", where, list)
    arguments = rows.need(row, "kwargs", where, list)
    if len(ids) != len(arguments):
        raise UserError(f"{where}: has {len(ids)} instructions and {len(arguments)} kwargs")
    for name, given in zip(ids, arguments, strict=True):
        if not isinstance(name, str) or not isinstance(given or {}, dict):
            raise UserError(f"{where}: {name!r:.40} with {given!r:.40} is no instruction: a text with an object")
        try:
            table.bind(languages, name, given or {})
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    arguments = [{k: v for k, v in (given or {}).items() if v is not None} for given in arguments]
    parts = [table.split_id(languages, name) for name in ids]
    if any(name.startswith(("language:", "change_case:")) for _, name in parts):
        detect("a")  # a package that lacks is told of now
    codes, groups = {language.code for language, _ in parts}, {name.partition(":")[0] for _, name in parts}
    code = codes.pop() if len(codes) == 1 else "mul"
    return Document(
        id=f"{code}-{key}",
        row={"prompt": prompt, "instructions": ids, "arguments": arguments},
        requests=(Generate(chat(prompt), max_new_tokens=MAX_NEW_TOKENS),),
        tags={
            "language": code, "group": groups.pop() if len(groups) == 1 else "several", "instructions": str(len(ids)),
        },
    )


def variants(text: str) -> list[str]:
    """The eight readings of the loose score; the first one is the text."""
    lines = text.split("\n")
    parts = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*parts, *(part.replace("*", "") for part in parts)]


def follow(row: Mapping[str, Any], text: str, *, languages: Mapping[str, Language] | None = None) -> tuple[list, list]:
    """Whether each instruction of a document's row is followed: (strict, loose), lists of bool."""
    languages = languages or table.known()
    checks = [table.bind(languages, n, a) for n, a in zip(row["instructions"], row["arguments"], strict=True)]
    readings = [t for t in dict.fromkeys(variants(text)) if t.strip()]
    strict = [bool(text.strip()) and check(text) for check in checks]
    return strict, [s or any(map(check, readings)) for s, check in zip(strict, checks, strict=True)]


def score(
    document: Document, responses: tuple[Response, ...], verdicts: tuple[Verdict, ...] = (), *,
    languages: Mapping[str, Language] | None = None,
) -> Outcome:
    """Details: `instructions`, and for each whether it was followed, `strict` and `loose`."""
    strict, loose = follow(document.row, responses[0].text, languages=languages)
    missed = [name for name, followed in zip(document.row["instructions"], strict, strict=True) if not followed]
    return Outcome(
        scores={
            "prompt_strict": float(all(strict)), "prompt_loose": float(all(loose)),
            "instruction_strict": sum(strict) / len(strict), "instruction_loose": sum(loose) / len(loose),
        },
        answer="followed" if not missed else f"not followed: {', '.join(missed)}",
        details={"instructions": document.row["instructions"], "strict": strict, "loose": loose},
    )


def _share(reading: str, documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    followed = [f for outcome in outcomes for f in outcome.details.get(reading, ())]
    return sum(followed) / len(followed) if followed else None


def by_instruction(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, int, int]]:
    """Each instruction -> (how often it was asked for, followed strictly, followed loosely), sorted by its id."""
    counts: dict[str, tuple[int, int, int]] = {}
    for outcome in outcomes:
        details = outcome.details
        for name, *followed in zip(details["instructions"], details["strict"], details["loose"], strict=True):
            asked = counts.get(name, (0, 0, 0))
            counts[name] = (asked[0] + 1, asked[1] + followed[0], asked[2] + followed[1])
    return dict(sorted(counts.items()))


def make(argument: str = "") -> Task:
    """The task with more languages, `module:NAME` joined by commas; their files are named as the others are.

    Raises:
      UserError: one of them cannot be imported, or is no Language.
    """
    languages = table.known(argument)
    return Task(
        name="ifeval",
        axis="utility",
        title="Verifiable instructions (IFEval, M-IFEval)",
        load=partial(load, languages=languages),
        score=partial(score, languages=languages),
        metrics=(
            Metric("prompt_strict", "prompts all of whose instructions are followed"),
            Metric("prompt_loose", "the same, with any of eight readings of the answer"),
            Metric("instruction_strict", "instructions that are followed", corpus=partial(_share, "strict")),
            Metric("instruction_loose", "the same, with any of eight readings", corpus=partial(_share, "loose")),
        ),
        files=("ifeval_input_data*.jsonl", "m_ifeval_*.jsonl"),
        hub=("google/IFEval",),
        packages=("langdetect",),
    source="Zhou et al., 2023, arXiv 2311.07911; Dussolle et al., 2025, arXiv 2502.04688",
    )


TASK = make()
