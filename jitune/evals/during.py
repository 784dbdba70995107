"""Evaluation while a model is trained: a suite every so often, its headlines in metrics.jsonl.

    plan = prepare(config.evals)                       # every file is read before the first step
    numbers = run(plan, pretrained, out=..., digest=...)   # {"evals/gsm8k/accuracy": 0.12, "evals/gsm8k/unscored": 0}

Each evaluation leaves a directory of its own, `evals/step-000100`, which `jitune report compare` reads. Metrics that
need a judge, a classifier or to run programs are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jitune import limits
from jitune.evals import choose
from jitune.evals.engine.engine import open_engine
from jitune.evals.pages.evaluation import write_page
from jitune.evals.results import FILE
from jitune.evals.run import evaluate
from jitune.models.config import ModelConfig
from jitune.types import Pretrained, UserError


class Plan(NamedTuple):
    """What is evaluated every `every` steps."""

    chosen: list[choose.Chosen]
    skipped: dict[str, str]
    every: int
    limit: int
    seed: int
    batch_size: int
    max_length: int


def prepare(options: Any, model: ModelConfig | None = None, *, longer: str = limits.IN_CONFIG) -> Plan | None:
    """The plan of `config.evals`, or None where it asks for nothing. model: whose context counts. longer: see `limits`.

    Raises:
      UserError: for what cannot work.
    """
    for name, least in (("every", 0), ("limit", 0), ("max_length", 0), ("batch_size", 1)):
        if options[name] < least:
            raise UserError(f"config.evals.{name}={options[name]} must be at least {least}")
    if model:
        limits.check_length(options.max_length, model, f"config.evals.max_length={options.max_length}", option=longer)
    if not (options.suite or options.tasks):
        if options.every:
            raise UserError(f"config.evals.every={options.every} needs config.evals.suite or config.evals.tasks")
        return None
    names, folders = ([w.strip() for w in words.split(",") if w.strip()] for words in (options.tasks, options.data))
    for name in names:
        if name.partition(":")[0] == "lm_eval":
            raise UserError(f"config.evals.tasks={name}: tasks of lm_eval are not run while training; jitune eval runs "
                            "them")  # fmt: skip
    try:
        chosen, skipped = choose.choose(suite=options.suite, tasks=names, data=folders)
    except UserError as error:
        raise UserError(re.sub(r"--(suite|tasks|data)\b", r"config.evals.\1", str(error))) from None
    chosen, _ = choose.read(chosen, options.limit, seed=options.seed)
    return Plan(chosen, skipped, options.every, options.limit, options.seed, options.batch_size, options.max_length)


def folder(directory: Path, step: int) -> Path:
    """Where the evaluation of a step lies."""
    return directory / "evals" / f"step-{step:06d}"


def due(plan: Plan | None, step: int, *, last: bool) -> bool:
    """Whether the model is evaluated after this step."""
    return plan is not None and (last or plan.every > 0 and step % plan.every == 0)


def missing(plan: Plan | None, directory: Path, step: int, *, last: bool) -> bool:
    """Whether the evaluation of a step that was saved was due, and did not come to its end."""
    return step > 0 and due(plan, step, last=last) and not (folder(directory, step) / FILE).exists()


def run(plan: Plan, pretrained: Pretrained, *, out: Path, digest: str, step: int, say) -> dict[str, float]:
    """Evaluates the model as it is; returns the headline of every task, where it has one, and the share not scored."""
    engine = open_engine(pretrained, batch_size=plan.batch_size, max_length=plan.max_length,
                         chat_template=None if pretrained.tokenizer.chat_template else "none")
    model = {"path": str(out.parent.parent), "adapter": "", "digest": f"{digest}-step-{step}",
             "family": pretrained.config.family, "step": step}
    results = evaluate(engine, plan.chosen, out, model=model, skipped=plan.skipped, limit=plan.limit, seed=plan.seed,
                       settings={"max_length": engine.limit}, progress=False)
    if jax.process_index() == 0:
        write_page(out)
    numbers, shown = {}, []
    for name, task in results["tasks"].items():
        value = task["metrics"][task["headline"]]["value"]
        numbers[f"evals/{name}/unscored"] = task["unscored"] / task["n"]
        if value is not None:
            numbers[f"evals/{name}/{task['headline']}"] = value
        shown.append(f"{name} {'not scored' if value is None else f'{value:.3g}'}")
    say(f"step {step} evaluation in {results['seconds']:.0f} s: {', '.join(shown)}")
    return numbers
