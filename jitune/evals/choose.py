"""Which tasks run on which documents: suites, names and a data folder in, documents of each task out.

    chosen, skipped = choose(suite="utility,safety", tasks="", data=["eval_data"], available={"judge"})
    documents = limit(task.load(specs), 50, seed=0)
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

from jitune.evals import catalogue, rows
from jitune.evals.task import Document, Task, digest
from jitune.types import UserError

ASSESSORS = {
    "judge": "a judge; give one with --judge",
    "classifier": "a classifier; give one with --classifier",
    "execution": "to run what the model writes; allow it with --allow_code",
}


class Chosen(NamedTuple):
    """A task and where its documents come from. named: it was asked for by name, and is no part of a suite."""

    task: Task
    specs: tuple[str, ...]
    named: bool = True


def choose(*, suite: str = "", tasks: Sequence[str] = (), data: Sequence[str] = (),
           available: Collection[str] = ()) -> tuple[list[Chosen], dict[str, str]]:
    """The tasks of suites and those asked for by name. Returns (chosen, {name: why it is skipped}).

    data: folders, in which files are looked for by name. available: the assessors that are there.
    A task of a suite whose files, or all of whose assessors, are missing is skipped; one that was named is an error.

    Raises:
      UserError: a name that is not known, a data folder that is not there, or nothing left to run.
    """
    for folder in data:
        if not Path(folder).exists():
            raise UserError(f"--data {folder}: is not there")
    wanted = {name: False for name in catalogue.suite(suite)} | {name: True for name in tasks}
    chosen, skipped = [], {}
    for name, by_name in wanted.items():
        task = catalogue.find_task(name)
        if any(c.task.name == task.name for c in chosen):
            raise UserError(f"--tasks {name}: there are two tasks with the name {task.name}")
        specs = find_specs(task, data, hub=by_name)
        why = ""
        if not specs and task.files:
            why = f"no {' nor '.join(task.files)} in {', '.join(map(str, data)) or 'any folder given with --data'}"
        elif all(metric.needs and metric.needs not in available for metric in task.metrics):
            why = f"needs {ASSESSORS[task.metrics[0].needs]}"
        elif missing := [package for package in task.packages if importlib.util.find_spec(package) is None]:
            why = f"needs {', '.join(missing)}: pip install 'jitune[eval]'"
        if why and by_name:
            raise UserError(f"--tasks {name}: {why}")
        if why:
            skipped[name] = why
        else:
            chosen.append(Chosen(task, specs, by_name))
    if not chosen:
        raise UserError(f"there is nothing to evaluate: {tell(skipped) or 'give --suite or --tasks'}")
    return chosen, skipped


def tell(skipped: Mapping[str, str], most: int = 3) -> str:
    """Why the first few tasks are skipped, on one line."""
    reasons = [f"{name}: {why}" for name, why in skipped.items()]
    more = f"and {len(reasons) - most} more tasks of the suite" if len(reasons) > most else ""
    return "; ".join([*reasons[:most], *filter(None, [more])])


def find_specs(task: Task, data: Sequence[str], *, hub: bool) -> tuple[str, ...]:
    """The files of a task in the data folders, else with hub its names on the hub."""
    found = tuple(dict.fromkeys(path for folder in data for path in rows.find(folder, task.files)))
    return found or (task.hub if hub else ())


def load(chosen: Chosen) -> list[Document]:
    """The documents of a task.

    Raises:
      UserError: a file that is not as it should be, an empty task, or two documents with one id.
    """
    task, specs, _ = chosen
    documents = task.load(specs)
    if not documents:
        raise UserError(f"{task.name}: is empty: there is no document in {', '.join(specs) or 'it'}")
    id, count = Counter(d.id for d in documents).most_common(1)[0]
    if count > 1:
        raise UserError(f"{task.name}: {count} documents have the id {id!r}")
    return documents


def read(chosen: Sequence[Chosen], most: int = 0, *, seed: int = 0, languages: Collection[str] = ()
         ) -> tuple[list[Chosen], dict[str, str]]:
    """The same tasks with their documents in memory, `limit`ed, and those of a suite that have none in `languages`.

    So every file is read before a model is, and once only: a file that changes later changes nothing.

    Raises:
      UserError: as `load` does, and for a language that no document has, or a task by name that has none of them.
    """
    kept, skipped, there = [], {}, set()
    for task, specs, named in chosen:
        documents = load(Chosen(task, specs))
        own = {d.tags["language"] for d in documents if d.tags.get("language")}
        there |= own
        documents = limit(documents, most, seed=seed, languages=languages)
        if documents:
            kept.append(Chosen(replace(task, load=lambda _, documents=documents: documents), specs, named))
            continue
        skipped[task.name] = f"has no document in {', '.join(languages)}, but in {', '.join(sorted(own))}"
        if named:
            raise UserError(f"{task.name}: {skipped[task.name]}")
    if unknown := [language for language in languages if language not in there]:
        raise UserError(f"--languages {unknown[0]}: no document has this language; there are "
                        f"{', '.join(sorted(there)) or 'none'}")
    if not kept:
        raise UserError(f"there is nothing to evaluate: {tell(skipped)}")
    return kept, skipped


def limit(documents: Sequence[Document], most: int, *, seed: int = 0, languages: Collection[str] = ()
          ) -> list[Document]:
    """At most `most` documents (0: all), in a fixed order, as evenly over their tags as they come.

    Drawn at random, by clusters, so that translations of one problem and answers to one question stay together.
    languages: only these, where documents have a language at all.
    """
    if languages:
        documents = [d for d in documents if d.tags.get("language") in (None, "", *languages)]
    if not most or len(documents) <= most:
        return list(documents)
    groups: dict[tuple, list[Document]] = {}
    for document in documents:
        groups.setdefault(tuple(sorted(document.tags.items())), []).append(document)
    for group in groups.values():
        group.sort(key=lambda d: digest([seed, d.cluster or d.id]))
    turns = chain.from_iterable(zip_longest(*groups.values()))
    taken = {d.id for d in [d for d in turns if d is not None][:most]}
    return [d for d in documents if d.id in taken]
