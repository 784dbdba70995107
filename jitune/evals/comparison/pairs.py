"""Two runs' samples laid side by side, and refused where they did not answer the same questions.

    pairs, warnings = align(a, b, "gsm8k", force=False)      # [(a's sample, b's sample), ...]

Documents are known by their hash, which covers the row and the target. What differs is a UserError of one line, or,
with `force`, a warning; documents that only one run has are then left out.
"""

from __future__ import annotations

from collections import defaultdict

from jitune.evals.results import Run, read_samples, sample_file
from jitune.evals.task import digest
from jitune.types import UserError

Pair = tuple[dict, dict]
# Settings that the prompts' hashes already hold, or that are looked at by themselves.
LOOKED_AT = ("limit", "judge")


def check_settings(a: Run, b: Run, *, force: bool) -> list[str]:
    """Refuses runs of other limits or judges; returns the warnings that `force` made of it."""
    warnings: list[str] = []
    one, two = a.header["settings"], b.header["settings"]
    if one.get("limit") != two.get("limit"):
        first, second = (f"{s.get('limit')} documents a task" if s.get("limit") else "no limit" for s in (one, two))
        tell(f"{a.directory} was evaluated with {first}, {b.directory} with {second}", warnings, force)
    first, second = one.get("judge"), two.get("judge")
    if first and second and first != second:
        parts = [f"{k} {first.get(k)!r:.60} and {second.get(k)!r:.60}" for k in sorted({*first, *second})
                 if first.get(k) != second.get(k)] if isinstance(first, dict) and isinstance(second, dict) else []
        tell(f"{a.directory} and {b.directory} had other judges: {', '.join(parts) or f'{first}, {second}'}",
             warnings, force)
    elif bool(first) != bool(second):
        warnings.append(f"only {a.directory if first else b.directory} had a judge: what needs one is not compared")
    return warnings


def differing(a: Run, b: Run) -> dict[str, list]:
    """The other settings that differ: {name: [a's, b's]}."""
    one, two = a.header["settings"], b.header["settings"]
    return {k: [one.get(k), two.get(k)] for k in sorted({*one, *two} - {*LOOKED_AT}) if one.get(k) != two.get(k)}


def tell(text: str, warnings: list[str], force: bool) -> None:
    """A refusal, or a warning."""
    if not force:
        raise UserError(f"{text}; --force compares them all the same")
    warnings.append(text)


def common_tasks(a: Run, b: Run) -> tuple[list[str], dict[str, str]]:
    """The tasks of both runs, in a's order, and why the others are left out.

    Raises:
      UserError: where there is none.
    """
    one, two = a.header["tasks"], b.header["tasks"]
    common = [name for name in one if name in two]
    if not common:
        raise UserError(f"{a.directory} and {b.directory} have no task in common: "
                        f"{', '.join(one) or 'none'} and {', '.join(two) or 'none'}")
    left_out = {n: f"only in {a.directory}" for n in one if n not in two}
    return common, left_out | {n: f"only in {b.directory}" for n in two if n not in one}


def align(a: Run, b: Run, task: str, *, force: bool) -> tuple[list[Pair], list[str]]:
    """The samples of one task in pairs, in the order of the hashes, and warnings.

    Raises:
      UserError: naming the task and the first document that differs.
    """
    warnings: list[str] = []
    one, two = keyed(a, task), keyed(b, task)
    for mine, other, run in ((one, two, a), (two, one, b)):
        lone = [mine[k]["id"] for k in mine if k not in other]
        if lone:
            tell(f"{task}: document {lone[0]} {f'and {len(lone) - 1} more ' if lone[1:] else ''}"
                 f"{'are' if lone[1:] else 'is'} only in {run.directory}, or had another text or target there",
                 warnings, force)
    pairs = [(one[k], two[k]) for k in sorted(one) if k in two]
    if not pairs:
        raise UserError(f"{task}: {a.directory} and {b.directory} have no document in common")
    check_prompts(a, b, task, pairs, warnings, force)
    if any(x.get("cluster", "") != y.get("cluster", "") for x, y in pairs):
        warnings.append(f"{task}: the runs group the documents into other clusters; those of {a.directory} are used")
    return pairs, warnings


def keyed(run: Run, task: str) -> dict[tuple[str, int], dict]:
    """The samples by hash; those of equal documents are numbered, in the order of their ids."""
    samples = read_samples(run, task)
    if digest(sorted(s["document"] for s in samples)) != run.header["tasks"][task]["documents"]:
        raise UserError(f"{sample_file(run.directory, task)}: holds other documents than results.json was made of; "
                        "evaluate again")
    seen: dict[str, int] = defaultdict(int)
    found = {}
    for sample in sorted(samples, key=lambda s: s["id"]):
        found[sample["document"], seen[sample["document"]]] = sample
        seen[sample["document"]] += 1
    return found


def check_prompts(a: Run, b: Run, task: str, pairs: list[Pair], warnings: list[str], force: bool) -> None:
    """Refuses documents that were asked in other words."""
    other = sorted(x["id"] for x, y in pairs if x["prompt_hash"] != y["prompt_hash"])
    one, two = (run.header["settings"].get("chat_template") for run in (a, b))
    why = f" (chat templates {one} and {two})" if one != two else ""
    if other:
        tell(f"{task}: the prompt of document {other[0]} {f'and of {len(other) - 1} more ' if other[1:] else ''}"
             f"is another in {b.directory} than in {a.directory}{why}", warnings, force)
        return
    one, two = (run.header["tasks"][task].get("prompts") for run in (a, b))
    if one and two and one != two:
        tell(f"{task}: the runs' prompts differ (digests {one} and {two}){why}", warnings, force)
