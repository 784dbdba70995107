"""The quickstart, top to bottom: data, a tiny model, its answers, tuning, its answers again, summary and report.

    quickstart("runs/quickstart")        # or: jitune quickstart --out runs/quickstart

Needs no network and nothing downloaded. The directory then holds

    report.html, summary.json     what was measured        data/train.jsonl, eval.jsonl   what was trained on, and not
    model/                        the tuned model, in Hugging Face layout
    base/                         the model before         run/         the training run: metrics, samples, checkpoint
    answers.jsonl                 every question of the test with both answers and what they were judged to be
    eval/before, eval/after       the test as evaluations: results.json, samples/, report.html
    comparison.json, .html        both side by side, as `jitune report compare` makes it

summary.json has

    seed, steps; versions; machine {platform, cores, devices, backend}; seconds {phase: ..., all}
    data      {train, test: rows; held_out: how the test was split off; shared_keys: how many contents of the test
              are in the training rows}
    model     {parameters, layers, width, vocabulary}
    training  {tokens, tokens_per_second: the median of the second half; loss_first; loss_last: mean over the last
              fiftieth of the steps; eval_loss_first, eval_loss_last: on the test questions; nats a token}
    before, after   {utility: {all, task, ...}, faithfulness: {name, ...}, safety: {name, ...}}, all of them shares
              {n, correct, share, low, high, unscored}; see `grade`
    comparison  {verdict: a line; areas: {area: {delta, low, high, p, pairs, better, worse}}}, of the share that came
              out as wanted, paired by question
    samples   [{task, kind, prompt, answer, before, outcome_before, after, outcome_after}]

and is the same on the same machine for the same seed, steps and questions, but for seconds and tokens_per_second.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax

from jitune import __version__, sharding, train, tree
from jitune import config as configs
from jitune.evals.comparison.compare import compare
from jitune.evals.engine.engine import open_engine
from jitune.evals.pages.comparison import render as render_comparison
from jitune.evals.pages.evaluation import write_page
from jitune.evals.results import sample_file
from jitune.evals.run import evaluate
from jitune.hub import fresh, weights
from jitune.quickstart import grade, measure, page, screen, tasks
from jitune.quickstart.tasks import Question
from jitune.runlog import write_atomically
from jitune.types import UserError

STEPS = 2800
ROWS = 60_000  # to train on, fewer for a short run
QUESTIONS = 50  # of the test, for each of `tasks.PARTS`
ANSWER_TOKENS = 32
ROOM = 200 << 20  # bytes that must be free
MARK = ".quickstart"
MADE = ("data", "base", "run", "model", "eval", "answers.jsonl", "comparison.json", "comparison.html", "summary.json",
        "report.html")  # removed by overwrite
HELD_OUT = (f"One of {tasks.HELD_OUT} questions is held out by the hash of its content, in whatever words it is asked; "
            "no content of the test is in the training rows.")


class Answer(NamedTuple):
    """What a model said to a question, and what it was judged to be (see `grade.judge`)."""

    text: str
    outcome: str | None


def quickstart(out: str | Path, *, seed: int = 0, steps: int = STEPS, questions: int = QUESTIONS,
               overwrite: bool = False, say: Callable[[str], None] = print) -> dict:
    """Runs everything and returns the summary.

    questions: of the test, for each task and kind. say: takes the lines that tell what happens.

    Raises UserError for a directory that cannot be used, and what `train.train` raises.
    """
    for name, given in (("steps", steps), ("questions", questions)):
        if given < 1:
            raise UserError(f"--{name} {given}: must be at least 1")
    out = Path(out).expanduser()
    if "," in str(out):
        raise UserError(f"{out}: a comma separates names of data files; choose a directory without one")
    with claim(out, overwrite):
        try:
            return work(out, seed, steps, questions, say)
        except OSError as error:
            raise UserError(f"{error.filename or out}: {error.strerror or error}") from error


def work(out: Path, seed: int, steps: int, questions: int, say) -> dict:
    """The straight line, in a directory that is ours."""
    seconds: dict[str, float] = {}
    with phase("data", seconds, say):
        rows, test = write_data(out / "data", seed, min(ROWS, 1000 + 20 * steps), questions)
        for line in screen.describe_data(rows, test):
            say(line)
    with phase("model", seconds, say):
        base = fresh.create(out / "base", family="llama", preset="quick", vocab_size=1024, seed=seed,
                            tokenizer_from=str(out / "data" / "train.jsonl"))
        say(f"  {fresh.describe(base)}\n  with random weights")
    with phase("before", seconds, say):
        before = ask(out / "base", test, out / "eval" / "before")
        say(screen.headline(grade.add_up(test, [a.outcome for a in before])))
    with phase("train", seconds, say):
        train.train(make_config(out, seed, steps))
        shutil.copytree(out / "run" / "final", out / "model")
    with phase("after", seconds, say):
        after = ask(out / "model", test, out / "eval" / "after")
        say(screen.headline(grade.add_up(test, [a.outcome for a in after])))
    write_lines(out / "answers.jsonl", (pair(q, b, a) for q, b, a in zip(test, before, after, strict=True)))
    compared = compare(out / "eval" / "before", out / "eval" / "after")
    write_atomically(out / "comparison.json", json.dumps(compared, indent=2, ensure_ascii=False) + "\n")
    write_atomically(out / "comparison.html", render_comparison(compared))
    summary = summarize(out, seed, steps, seconds, rows, test, before, after, base)
    summary["comparison"] = measure.changes(compared)
    write_atomically(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    commands = screen.next_commands(out, min((q.prompt for q in test if q.task == "reverse"), key=len))
    html = page.make_page(summary, read_lines(out / "run" / "metrics.jsonl"), "\n".join(commands))
    write_atomically(out / "report.html", html)
    for line in [*screen.results(summary), *screen.where_to_look(out), "", "Type next", *commands]:
        say(line)
    return summary


@contextmanager
def phase(name: str, seconds: dict[str, float], say) -> Iterator[None]:
    """Says what begins, and measures how long it takes."""
    say(f"\n{screen.PHASES[name]}")
    began = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - began, 2)


@contextmanager
def claim(out: Path, overwrite: bool) -> Iterator[None]:
    """Takes an empty directory, or with overwrite that of an earlier quickstart, for as long as it is written.

    Raises UserError where it is something else, in use, on a full disk or not writable.
    """
    mark = out / MARK
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is not a directory")
    if out.exists() and any(out.iterdir()) and not mark.exists():
        raise UserError(f"{out}: is not empty and holds no quickstart; choose another directory with --out")
    if mark.exists() and not overwrite:
        raise UserError(f"{out}: holds an earlier quickstart; --overwrite replaces it, or choose another with --out")
    out.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(out).free) < ROOM:
        raise UserError(f"{out}: {free >> 20} MiB are free on this disk, {ROOM >> 20} MiB are needed")
    with mark.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{out}: another quickstart is writing here; wait for it, or choose another directory "
                            "with --out") from None
        for name in MADE:
            path = out / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        yield


def write_data(directory: Path, seed: int, rows: int, questions: int) -> tuple[list[Question], list[Question]]:
    """Writes train.jsonl and eval.jsonl; returns (training questions, test questions in the order of eval.jsonl)."""
    written, test = tasks.write(rows, seed=seed), tasks.write_test(questions, seed=seed)
    random.Random(f"order {seed}").shuffle(test)
    directory.mkdir()
    write_lines(directory / "train.jsonl", (q.row() for q in written))
    write_lines(directory / "eval.jsonl", (q._replace(more=()).row() for q in test))
    return written, test


def write_lines(path: Path, rows: Iterable[dict]) -> None:
    """Writes JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_lines(path: Path) -> list[dict]:
    """Reads JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_config(out: Path, seed: int, steps: int):
    """The training run: what `jitune train` takes, set so that a tiny model learns in few steps."""
    config = configs.defaults()
    config.model.path, config.output_dir = str(out / "base"), str(out / "run")
    config.data.train, config.data.eval = str(out / "data" / "train.jsonl"), str(out / "data" / "eval.jsonl")
    config.update({"seq_len": 128, "batch_size": 8, "loss_chunk": 4096, "steps": steps, "seed": seed, "loggers": ""})
    config.mesh.update({"data": -1, "fsdp": 1})
    config.optimizer.update({"name": "muon", "learning_rate": 1e-2, "b2": 0.98, "weight_decay": 0.01,
                             "final_ratio": 0.05})
    config.eval_every = max(1, steps // 12)
    config.sample_every, config.sample_tokens = max(1, steps // 4), ANSWER_TOKENS
    return config


def ask(model: Path, questions: list[Question], out: Path) -> list[Answer]:
    """The answers of the model in a directory, greedy, judged; the evaluation is left in `out`."""
    pretrained = weights.load(model, dtype="float32", mesh=sharding.make_mesh(-1, 1, 1))
    engine = open_engine(pretrained, batch_size=64)
    chosen = measure.make_tasks(questions, max_new_tokens=ANSWER_TOKENS)
    evaluate(engine, chosen, out, model=measure.describe(pretrained, model), progress=False)
    write_page(out)
    lines = [line for c in chosen for line in read_lines(sample_file(out, c.task.name))]
    found = {int(line["id"]): Answer(line["responses"][0]["text"], line["details"]["outcome"]) for line in lines}
    return [found[i] for i in range(len(questions))]


def pair(question: Question, before: Answer, after: Answer) -> dict:
    """A question of the test and both answers, as a line of answers.jsonl."""
    return {"task": question.task, "kind": question.kind, "prompt": question.prompt, "answer": question.answer,
            "before": before.text, "outcome_before": before.outcome,
            "after": after.text, "outcome_after": after.outcome}


def summarize(out, seed, steps, seconds, rows, test, before, after, base) -> dict:
    """What summary.json holds; see the top of this file."""
    metrics = read_lines(out / "run" / "metrics.jsonl")
    shared = {(q.task, q.key) for q in test} & {(q.task, q.key) for q in rows}
    tail = [row["loss"] for row in metrics[-max(1, steps // 50):]]
    late = [row["tokens_per_second"] for row in metrics[len(metrics) // 2:]]
    evaluated = [row["eval_loss"] for row in metrics if "eval_loss" in row]
    return {
        "seed": seed, "steps": steps,
        "versions": {"jitune": __version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in ("jax", "flax", "optax", "transformers")},
        "machine": {"platform": platform.platform(), "cores": cores(), "devices": jax.device_count(),
                    "backend": jax.default_backend()},
        "seconds": seconds | {"all": round(sum(seconds.values()), 2)},
        "data": {"train": len(rows), "test": len(test), "held_out": HELD_OUT, "shared_keys": len(shared)},
        "model": {"parameters": tree.count_params(base.params), "layers": base.config.num_layers,
                  "width": base.config.dim, "vocabulary": base.config.vocab_size},
        "training": {"tokens": int(sum(row["tokens"] for row in metrics)),
                     "tokens_per_second": round(statistics.median(late)), "loss_first": metrics[0]["loss"],
                     "loss_last": sum(tail) / len(tail), "eval_loss_first": evaluated[0],
                     "eval_loss_last": evaluated[-1]},
        "before": grade.add_up(test, [a.outcome for a in before]),
        "after": grade.add_up(test, [a.outcome for a in after]),
        "samples": choose_samples([pair(q, b, a) for q, b, a in zip(test, before, after, strict=True)]),
    }


def choose_samples(pairs: list[dict]) -> list[dict]:
    """Of every task and kind the first question, and where that was answered rightly the first that was not."""
    chosen = []
    for task, kind in tasks.PARTS:
        here = [p for p in pairs if (p["task"], p["kind"]) == (task, kind)]
        wrong = [p for p in here[1:] if p["outcome_after"] != grade.GOAL[kind]]
        chosen += here[:1] + (wrong[:1] if here[0]["outcome_after"] == grade.GOAL[kind] else [])
    return chosen


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
