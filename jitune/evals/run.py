"""One evaluation, top to bottom: documents, requests, responses, verdicts, scores, results.

    results = evaluate(engine, chosen, "out", model={"digest": ...})

The directory then holds

    results.json           every number with its error bar, and what it was measured on
    samples/<task>.jsonl   every document with prompt, responses, verdicts and scores
    responses.jsonl        what the model said: a run that was killed goes on from there, a rerun asks the model for
                           nothing, and another model is refused
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jitune import __version__
from jitune.evals import aggregate, choose
from jitune.evals.progress import Bars
from jitune.evals.responses import answer, open_store, shown
from jitune.evals.results import sample_file
from jitune.evals.task import (
    Ask,
    Classify,
    Document,
    Execute,
    Generated,
    Outcome,
    Response,
    Task,
    Verdict,
    digest,
)
from jitune.runlog import write_atomically
from jitune.types import UserError

NEEDS = {Ask: "judge", Classify: "classifier", Execute: "execution"}
# What a question needs -> an object with `answer(questions, on_done=...) -> verdicts` and `account`: a Judge, a
# Classifier, a Sandbox.
Assessors = Mapping[str, Any]
THOUGHTS = "</think>"


class Work(NamedTuple):
    """A task, its documents, and what became of each. prompts: a digest of all that the model was shown for each."""

    task: Task
    documents: list[Document]
    responses: list[tuple[Response, ...]]
    verdicts: list[tuple[Verdict, ...]]
    outcomes: list[Outcome]
    prompts: list[str]


def evaluate(
    engine: Any,
    chosen: Sequence[choose.Chosen],
    out: str | Path | None,
    *,
    model: Mapping[str, Any],
    assessors: Assessors | None = None,
    settings: Mapping[str, Any] | None = None,
    skipped: Mapping[str, str] | None = None,
    limit: int = 0,
    languages: Sequence[str] = (),
    seed: int = 0,
    more: Callable[[Any, Bars], list[tuple]] | None = None,
    progress: bool = True,
) -> dict:
    """Evaluates a model on tasks and returns what results.json holds.

    Args:
      engine: see `engine.open_engine`.
      chosen: see `choose.choose`; every task is loaded before the model is asked for anything.
      out: the directory; None: nothing is written. Of several processes the first one writes.
      model: what identifies the model; its `digest` decides whether earlier responses may be used.
      assessors: what tells what a function cannot: `judge`, `classifier`, `execution`; of several processes the
        first one has them.
      settings: of the run, for the record.
      limit: documents of a task, see `choose.limit`; 0: all.
      languages: only these, where documents have a language.
      more: tasks that ask on their own, `(store, bars) -> [(task, documents, responses, outcomes)]`; see `harness`.

    Raises:
      UserError: task files, an empty task, a directory of another model, a model whose logits are not finite.
    """
    assessors, began, first = dict(assessors or {}), time.perf_counter(), jax.process_index() == 0
    loaded = load(chosen, limit, seed, languages)
    out = Path(out) if out is not None and first else None
    with ExitStack() as stack:
        bars = stack.enter_context(Bars(shown=progress and first))
        store = stack.enter_context(open_store(out, model, engine)) if out else None
        answers = iter(answer(engine, [r for _, ds in loaded for d in ds for r in d.requests], store, bars))
        given = [[tuple(next(answers) for _ in d.requests) for d in documents] for _, documents in loaded]
        others = [Work(task, documents, responses, [()] * len(documents), outcomes, hash_prompts(engine, documents))
                  for task, documents, responses, outcomes in (more(store, bars) if more else ())]
        judged = assess(loaded, given, assessors, bars)  # comes last: the first process alone asks
        works = [Work(task, documents, rs, vs, score(task, documents, rs, vs), hash_prompts(engine, documents))
                 for (task, documents), rs, vs in zip(loaded, given, judged, strict=True)] + others
    results = {
        "format": 1,
        "jitune": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": dict(model),
        "settings": {"limit": limit, "seed": seed, "languages": list(languages), **(settings or {}),
                     **{need: getattr(a, "identity", True) for need, a in assessors.items()}},
        "tasks": {work.task.name: summarize(work, assessors) for work in works},
        "skipped": dict(skipped or {}),
        "engine": dict(engine.stats),
        "judge": getattr(assessors.get("judge"), "account", None),
        "seconds": round(time.perf_counter() - began, 2),
    }
    if out:
        write(out, results, engine, works)
    return results


def load(chosen: Sequence[choose.Chosen], limit: int, seed: int, languages: Sequence[str]) -> list[tuple]:
    """(task, documents) of every task."""
    loaded = [(c.task, choose.limit(choose.load(c), limit, seed=seed, languages=languages)) for c in chosen]
    for task, documents in loaded:
        if not documents:
            raise UserError(f"{task.name}: has no document in {', '.join(languages)}")
    return loaded


def assess(loaded, given, assessors: Assessors, bars: Bars) -> list[list[tuple[Verdict, ...]]]:
    """The verdicts on every document's questions; each assessor gets those of all tasks at once.

    A document none of whose questions has an assessor has no verdicts.
    """
    questions = [[served(task.ask(d, said(rs)), assessors) if task.ask else ()
                  for d, rs in zip(documents, responses, strict=True)]
                 for (task, documents), responses in zip(loaded, given, strict=True)]
    flat = [q for rows in questions for row in rows for q in row]
    found = {i: Verdict(None, f"no {NEEDS[type(q)]}") for i, q in enumerate(flat)}
    for kind, need in NEEDS.items():
        places = [i for i, question in enumerate(flat) if isinstance(question, kind) and need in assessors]
        with bars.bar(need, len(places)) as advance:
            if places:
                def count(done, advance=advance):
                    advance(len(done))

                verdicts = assessors[need].answer([flat[i] for i in places], on_done=count)
                found |= dict(zip(places, verdicts, strict=True))
    taken = iter(found[i] for i in range(len(flat)))
    return [[tuple(next(taken) for _ in row) for row in rows] for rows in questions]


def served(questions: tuple, assessors: Assessors) -> tuple:
    """The questions, or none where no assessor is there for any of them."""
    return questions if any(NEEDS[type(q)] in assessors for q in questions) else ()


def said(responses: tuple[Response, ...]) -> tuple[Response, ...]:
    """Responses without the thoughts in front of the answers, as models write them that think aloud."""
    return tuple(replace(r, text=r.text.rpartition(THOUGHTS)[2].lstrip()) if isinstance(r, Generated) and
                 THOUGHTS in r.text else r for r in responses)


def score(task: Task, documents, responses, verdicts) -> list[Outcome]:
    """How every document came out."""
    return [task.score(d, said(rs), vs) for d, rs, vs in zip(documents, responses, verdicts, strict=True)]


def summarize(work: Work, assessors: Assessors) -> dict:
    """The entry of a task in results.json."""
    truncated = sum(any(r.truncated for r in responses) for responses in work.responses)
    return {
        **aggregate.summarize(work.task, work.documents, work.outcomes, available=frozenset(assessors)),
        "prompts": digest(sorted(work.prompts)),
        "truncated": truncated,
    }


def hash_prompts(engine: Any, documents: Sequence[Document]) -> list[str]:
    """Of each document, a digest of all that the model was shown, and how it was asked."""
    return [digest([shown(engine, request) for request in d.requests]) for d in documents]


def write(out: Path, results: dict, engine: Any, works: Sequence[Work]) -> None:
    """Writes samples and results; results.json comes last, for it marks the evaluation as whole."""
    (out / "samples").mkdir(parents=True, exist_ok=True)
    for work in works:
        lines = [to_json(sample(engine, *item)) for item in zip(*work[1:], strict=True)]
        write_atomically(sample_file(out, work.task.name), "".join(f"{line}\n" for line in lines))
    write_atomically(out / "results.json", to_json(results, indent=2) + "\n")


def to_json(value: dict, **options) -> str:
    """JSON without what is no JSON: NaN is an error here, not a number that readers stumble over."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, **options)


def sample(engine: Any, document: Document, responses, verdicts, outcome: Outcome, prompt_hash: str) -> dict:
    """A line of samples/<task>.jsonl."""
    prompts = [shown(engine, request) for request in document.requests[:1]]
    return {
        "id": document.id,
        "document": document.hash,
        "prompt_hash": prompt_hash,
        "tags": dict(document.tags),
        "cluster": document.cluster,
        "prompt": next((p.get("prompt", p.get("text")) for p in prompts), ""),
        "target": document.target,
        "responses": [{**continuation(q), **asdict(r)} for q, r in zip(document.requests, responses, strict=True)],
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "answer": outcome.answer,
        "scores": dict(outcome.scores),
        "failure": outcome.failure,
        "details": dict(outcome.details),
    }


def continuation(request: Any) -> dict:
    """What was scored, where something was."""
    text = getattr(request, "continuation", None)
    return {} if text is None else {"continuation": text}
