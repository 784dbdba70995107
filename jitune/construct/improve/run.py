"""Self-improvement: `improve(config)` runs rounds of generating, checking, training and measuring.

    improve(from_words("improve", ["--config.model.path=DIR", "--config.prompts=train.jsonl", ...]))

    D_{t+1} = D_t + {(x_i, Improve(M_t(x_i)))}, and M_{t+1} is trained on it from M_0 (base) or M_t (last)

| file | what |
|---|---|
| round-T/ | everything of a round, see `rounds`; round-0 is the evaluation of the first model |
| report.html, summary.json | every round: what was made and kept, accuracy, checks for collapse, costs, why it ended |
| data.jsonl, card.md | what the last model was trained on, with its provenance, and a data card |
| final | the model, a link to its round's folder |
| run.json | the config, and what a run that goes on must share |

A run that was killed goes on with the same call, inside the round where it stood, and ends with the same files.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jitune import __version__
from jitune import config as training
from jitune.construct.curate import identity
from jitune.construct.improve import config as options
from jitune.construct.improve import methods, phases, report, stopping, summary
from jitune.construct.improve.constitution import PRINCIPLES, read_principles
from jitune.construct.improve.frame import Run, folder_of, history, model_of, read_state, write_json
from jitune.construct.improve.models import Models
from jitune.construct.improve.problems import Problems, read_problems, reference
from jitune.construct.improve.rounds import is_empty, refuse_empty, run_round, why_empty
from jitune.construct.ledger import difference
from jitune.construct.verify.table import VERIFIERS, open_parser, open_verifier
from jitune.data.pipeline import parse_fields
from jitune.data.record import own_answer
from jitune.evals.store import lock, one_process
from jitune.hub import peft, weights
from jitune.types import UserError

RUN = "run.json"
# How a generator is asked, and how much; not who answers what.
MEANS = ("key_env", "prices", "budget", "token_budget", "concurrency", "timeout", "tries", "batch_size", "mesh")
# A run may go on with other values of these, and of all that begins with those of FREE_SECTIONS.
FREE = ("rounds", "export", "output_dir", "model.path", "prompts", "heldout", "verifier.workers")
FREE_SECTIONS = ("limits.", "train.keep", "train.loggers", "train.checkpoint_every", "train.mesh.",
                 *(f"{who}.{name}" for who in ("generator", "judge") for name in MEANS))  # fmt: skip
# Options that count from a phase on. Behind an answer of the model, which is paid for, nothing but time is lost.
LATER = {"config.verifier.": "make", "config.judg": "make", "code of ": "make", "config.curate.": "curate",
         "config.own_answers": "pool", "config.pool": "pool", "config.train.": "train"}  # fmt: skip


def improve(config: Any, *, models: Any = None, say: Callable[[str], None] | None = None) -> Path:
    """Runs the rounds, or goes on with a run that was killed; returns its folder.

    Args:
      config: as `improve.config` makes it.
      models: what opens models and judges, by default `models.Models(config)`.
      say: takes the lines that tell what happens.

    Raises:
      UserError: a value of the config, data that cannot be read, a folder of another run, one of several processes, a
        first round in which nothing is kept. What `train.train` raises; behind `stopping.Interrupted` the same call
        goes on.
    """
    say = say or (lambda text: None)
    one_process("self-improvement")
    options.check(config)
    recipe = methods.resolve(config)
    _check_training(config, recipe)
    phases.stages_of(config)
    models = models or Models(config, say)
    folder, first = Path(config.output_dir).expanduser(), weights.resolve(config.model.path)
    if peft.is_adapter(first):
        raise UserError(f"config.model.path={config.model.path}: is an adapter, and rounds train a whole model; make "
                        "one of it with `jitune export --to merged`")
    # What compares with something known is asked about nothing else, for that would be for nothing.
    known = reference if config.verifier.name == "math" else None
    heldout = _problems(config, "heldout", config.heldout_limit, answered=known) if config.heldout else None
    problems = _problems(config, "prompts", config.limit, without=heldout,
                         answered=own_answer if recipe.answered else known if recipe.checks else None)
    principles = _principles(config)
    header = make_header(config, problems, heldout, models.digest(first), principles)
    with opened(config, recipe) as (verify, read), claim(folder, header, config):
        run = Run(config, recipe, folder, problems, heldout, models, named_by(first), verify, read, principles,
                  _suite(config, first), say)
        stopped, last, error = fold(run)
        finish(run, stopped, last)
        if error:
            raise error
    return folder


def named_by(path: Path) -> str:
    """A model's name for people, out/final and out/round-1/train/final by their folder's."""
    found = path.resolve()
    return found.parent.name if found.name == "final" and found.parent.name else found.name


def fold(run: Run) -> tuple[str, int, UserError | None]:
    """Runs rounds until they are done or something stops them: (why, the last round that trained, its error)."""
    run_round(run, 0)
    for number in range(1, run.config.rounds + 1):
        state = run_round(run, number)
        if is_empty(state):
            why = f"round {number}: nothing was kept of the answers to {state['make']['asked']:,} prompts"
            return f"{why} ({why_empty(state)})", number - 1, refuse_empty(number, state) if number == 1 else None
        accuracies = [accuracy_of(run, t) for t in range(number + 1)]
        why = why_stop(run, number)
        run.say(summary.line(number, state, accuracies))
        write_pages(run, f"not yet: round {number} is done", number, number)
        if why and number < run.config.rounds:
            return f"round {number}: {why}", number, None
    done = "the round is done" if run.config.rounds == 1 else f"all {run.config.rounds} rounds are done"
    return done + (f"; round {number}: {why}" if why else ""), number, None


def why_stop(run: Run, number: int) -> str:
    """What in the rounds so far speaks against another one, or ""."""
    limits = run.config.limits.to_dict()
    measured = [(t, read_state(folder_of(run, t))["evaluate"]["accuracy"]) for t in range(number + 1)]
    accuracies = [{"round": t, "accuracy": a["value"], "accuracy_se": a["se"]} for t, a in measured if a]
    found = stopping.stop_reason(history(run, number), limits), stopping.stop_reason(accuracies, limits)
    return "; ".join(filter(None, found))


def accuracy_of(run: Run, number: int) -> float | None:
    """Held-out accuracy after a round, where it was measured."""
    found = read_state(folder_of(run, number)).get("evaluate", {}).get("accuracy")
    return found and found["value"]


def finish(run: Run, stopped: str, last: int) -> None:
    """Links the model, and writes what is made of the rounds; a run that is done can be finished again."""
    run.models.release()
    chosen = last
    if run.config.export == "best" and last:
        scores = [(accuracy_of(run, t), t) for t in range(last + 1)]
        chosen = max(((a, -t) for a, t in scores if a is not None), default=(0, -last))[1] * -1
    if last:
        link(run, chosen)
        shutil.copyfile(folder_of(run, last) / "pool.jsonl", run.folder / "data.jsonl")
        report.write_card(run.folder, f"{run.name}, {run.config.method}")
    write_pages(run, stopped, last, chosen)


def write_pages(run: Run, stopped: str, last: int, final: int) -> None:
    """Writes summary.json and report.html of the rounds so far."""
    found = summary.summarize(run, stopped, last, final)
    write_json(run.folder / "summary.json", found)
    report.write(run.folder, found)


def link(run: Run, number: int) -> None:
    """Makes `final` the model of a round."""
    target = Path(model_of(run, number)) if number else weights.resolve(run.config.model.path)
    target = target.resolve()
    draft = run.folder / "final.partial"
    draft.unlink(missing_ok=True)
    inside = target.is_relative_to(run.folder.resolve())
    draft.symlink_to(os.path.relpath(target, run.folder.resolve()) if inside else target, target_is_directory=True)
    os.replace(draft, run.folder / "final")


def make_header(config: Any, problems: Problems, heldout: Problems | None, model: str, principles) -> dict[str, Any]:
    """What a run is of: another model, data or option makes another run."""
    flat = training.flatten(shown(config))
    header = {f"config.{name}": value for name, value in flat.items()
              if name not in FREE and not name.startswith(FREE_SECTIONS)}  # fmt: skip
    header |= {"digest of the model": model, "digest of the prompts": problems.digest,
               "digest of the held-out problems": heldout and heldout.digest,
               "principles": [list(p) for p in principles]}
    for target in (config.method, config.verifier.name):
        header |= {f"code of {file}": digest for file, digest in identity.code(target).items()}
    return header


@contextmanager
def claim(folder: Path, header: dict[str, Any], config: Any) -> Iterator[None]:
    """Takes a free folder, or that of the same run, for as long as it is written.

    Raises UserError where it is something else, or in use.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; a folder is needed")
    path = folder / RUN
    if folder.exists() and not path.exists() and any(p.name != "lock" for p in folder.iterdir()):
        raise UserError(f"{folder}: is not empty and holds no run of jitune improve; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a") as file:
        lock(file, folder)
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8")).get("header")
            header = json.loads(json.dumps(header))
            if any(folder.glob("round-*")) and found != header and not turn_back(folder, found, header):
                raise UserError(f"{folder}: was written for something else ({difference(found, header)}); give another "
                                "folder, or move it away")
        write_json(path, {"jitune": __version__, "header": header, "config": shown(config).to_dict()})
        yield


def turn_back(folder: Path, found: Any, header: dict[str, Any]) -> bool:
    """Takes back what rests on other options, where it is only what comes behind the answers of the first round.

    Answers are paid for: a training that fails, or a verifier or a judge, must not need them anew. Returns whether that
    is all that differs.
    """
    first, state = folder / "round-1", read_state(folder / "round-1")
    differing = [name for name in {*header, *(found or {})} if (found or {}).get(name) != header.get(name)]
    phases = {next((phase for start, phase in LATER.items() if name.startswith(start)), "") for name in differing}
    if "" in phases or "train" in state:
        return False
    order = list(dict.fromkeys(LATER.values()))
    for phase in order[min(map(order.index, phases)):]:
        state.pop(phase, None)
        shutil.rmtree(first / {"curate": "curated"}.get(phase, phase), ignore_errors=True)
    if "make" in phases:  # which the answers to held-out problems went through, too
        (folder / "round-0" / "state.json").unlink(missing_ok=True)
    if first.exists():
        write_json(first / "state.json", state)
    return True


def shown(config: Any) -> Any:
    """The config as it may be written down: a query of an endpoint's URL may hold a key."""
    found = config.copy_and_resolve_references()
    for who in ("generator", "judge"):
        for name in ("base_url", "model"):
            found[who][name] = found[who][name].partition("?")[0]
    return found


@contextmanager
def opened(config: Any, recipe: methods.Recipe) -> Iterator[tuple[Any, Any]]:
    """The verifier, or None, and what reads answers where the method counts them."""
    section, name = config.verifier, config.verifier.name
    if not name:
        yield None, None
        return
    given = section[name].to_dict() if name in VERIFIERS else _own_options(section.options)
    read = open_parser(name, **given) if recipe.reads else None
    with open_verifier(name, time_limit=section.time_limit, workers=section.workers, **given) as verify:
        yield verify, read


def _own_options(text: str) -> dict[str, Any]:
    """Options of a verifier of one's own: "a=1,b=x" -> {"a": 1, "b": "x"}."""
    def value(word: str) -> Any:
        try:
            return json.loads(word)
        except ValueError:
            return word

    return {key: value(word) for key, word in parse_fields(text, name="verifier.options").items()}


def _problems(config: Any, option: str, limit: int, **more: Any) -> Problems:
    return read_problems(config[option], option=option, format=config.format, fields=config.fields, limit=limit, **more)


def _principles(config: Any) -> Any:
    found = read_principles(config.principles) if config.principles else PRINCIPLES
    if config.method == "constitutional" and config.revisions > len(found):
        raise UserError(f"config.revisions={config.revisions}: each is by another principle, of which there are "
                        f"{len(found)}")
    return found


def _check_training(config: Any, recipe: methods.Recipe) -> None:
    """Refuses values of the section `train` that no training takes, before anything is generated."""
    from jitune import compiling, sharding

    whole = training.defaults()
    whole.update(config.train.to_dict())
    whole.objective.name, whole.optimizer.learning_rate = recipe.objective, recipe.learning_rate
    try:
        training.check(whole, needed=())
        compiling.check_batch(whole, sharding.make_mesh(**whole.mesh))
    except UserError as error:
        raise UserError(options.within("train", str(error))) from None


def _suite(config: Any, model: Path) -> Any:
    """What is evaluated after each round besides, or None."""
    if not (config.evals.suite or config.evals.tasks):
        return None
    from jitune.evals import during

    return during.prepare(config.evals, weights.read_config(model), longer="")
