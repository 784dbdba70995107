"""The phases of a round: each is a function of the run and what the phases before have left in the round's folder.

    make(run, 2, folder)        # {"asked": 200, "made": 141, "reasons": {"wrong_answer": 59}, ...}

A phase that is run again after a kill gives the same files, and asks for nothing that was answered before.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from jitune.construct.improve import collapse, evaluate, makers
from jitune.construct.improve.config import within
from jitune.construct.improve.frame import (
    Run,
    asked,
    folder_of,
    model_of,
    name_of,
    read_state,
    seeds,
    start_of,
    write_json,
)
from jitune.construct.improve.makers import Given
from jitune.construct.improve.problems import is_answered
from jitune.construct.whole_file import whole_file
from jitune.data.record import CANONICAL, Record, changed
from jitune.data.record_rows import from_row, to_line, to_row
from jitune.types import UserError

CALLS = 20_000  # answers that are held in memory at once, at most, but those to one prompt


def make(run: Run, number: int, folder: Path) -> dict[str, Any]:
    """Asks the model of the round before, and chooses among its answers."""
    before, tokens, judged = model_of(run, number - 1), Counter(), Counter()
    name, reasons, told, made = name_of(run, number - 1), Counter(), {}, 0
    spent = [read_state(folder_of(run, t))["make"] for t in range(1, number)]
    generator = run.models.open(before, name=name, cache=folder / "generations.jsonl", spent=total(spent, "answers"))
    judge = run.models.open_judge(before, name=name, cache=folder / "judgements.jsonl",
                                  spent=total(spent, "judge")) if run.recipe.judges else None
    try:
        given = Given(asked(generator, tokens), run.recipe, seeds(run.config.seed, number), number,
                      run.config.sampling.max_tokens, run.verify if run.recipe.checks else None, run.read,
                      judge and asked(judge, judged), run.config.judging, run.principles,
                      run.config.revisions)
        size, chosen = max(1, CALLS // run.recipe.samples), drawn(run, number)
        with whole_file(folder / "made.jsonl") as kept, whole_file(folder / "rejected.jsonl") as rejected:
            for start in range(0, len(chosen), size):
                found = run.recipe.make(given, chosen[start : start + size])
                for record in found.kept:
                    kept.write(to_line(changed(record, meta={**record.meta, "round": number})))
                for one in found.rejected:
                    rejected.write(rejected_line(one))
                made += len(found.kept)
                reasons.update(one.reason for one in found.rejected)
                told = {one.reason: one.detail for one in found.rejected[::-1]} | told
        drift = judge_drift(run, number, given) if judge and run.config.judging.anchors else None
        accounts = {who: g.account for who, g in (("answers", generator), ("judge", judge)) if g}
    finally:
        for one in filter(None, (generator, judge)):
            one.close()
    costs = {who: a["cost"] + a.get("earlier_cost", 0.0) for who, a in accounts.items() if a.get("cost") is not None}
    used = {who: sum(a.get(n, 0) for n in ("input_tokens", "output_tokens", "earlier_tokens"))
            for who, a in accounts.items()}
    return {"asked": len(chosen), "made": made, "reasons": dict(sorted(reasons.items())), "told": told,
            "tokens": dict(tokens), "judge_tokens": dict(judged), "costs": costs, "used": used,
            "model": dict(generator.identity), "judge_drift": drift}


def drawn(run: Run, number: int) -> list[Record]:
    """The problems of a round: all, or so many by chance, in their order."""
    problems, count = run.problems.problems, run.config.per_round
    if not 0 < count < len(problems):
        return problems
    chosen = random.Random(f"{run.config.seed} {number}").sample(range(len(problems)), count)
    return [problems[i] for i in sorted(chosen)]


def total(made: Sequence[Mapping[str, Any]], who: str) -> tuple[float, int]:
    """What earlier rounds have cost, and the tokens that they took. made: what `make` said of each."""
    return sum(m["costs"].get(who, 0.0) for m in made), sum(m.get("used", {}).get(who, 0) for m in made)


def rejected_line(one: Any) -> bytes:
    """A line of rejected.jsonl."""
    row = {"stage": "make", "reason": one.reason, "detail": one.detail, "source": one.source, "text": one.text}
    row |= {"record": to_row(one.record)} if one.record else {}
    return CANONICAL(row).encode(errors="backslashreplace") + b"\n"


def judge_drift(run: Run, number: int, given: Given) -> dict[str, Any] | None:
    """How a judge scores answers of the first round that it scored then; None where there are none.

    The anchors are kept in anchors.json, and judged anew in every round by the judge of that round.
    """
    path = run.folder / "anchors.json"
    if number == 1:  # again where the round is: the first time nothing may have been kept
        sides = [(r, side[-1]["content"]) for r in records(folder_of(run, 1) / "made.jsonl")
                 for side in (r.chosen, r.rejected) if side]
        sides = sides[: run.config.judging.anchors]
        write_json(path, [{"record": to_row(r), "text": text, "score": score}
                          for (r, text), (score, _) in zip(sides, makers.judged(given, sides), strict=True)])
    anchors = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    now = makers.judged(given, [(from_row(a["record"], (str(path), i)), a["text"]) for i, a in enumerate(anchors, 1)])
    return collapse.judge_drift([a["score"] for a in anchors], [score for score, _ in now]) if anchors else None


def records(path: Path) -> list[Record]:
    """The records of a file of a round."""
    with open(path, "rb") as lines:
        return [from_row(json.loads(line), (str(path), number)) for number, line in enumerate(lines, 1)]


def curate(run: Run, number: int, folder: Path) -> dict[str, Any]:
    """Sends what was made through the stages of the config; what was made twice is kept once."""
    from jitune.construct.curate.run import curate as run_stages

    made, reasons = folder / "made.jsonl", {}
    if run.config.curate.stages and made.stat().st_size:
        config = curation_of(run.config)
        config.update({"input": str(made), "output_dir": str(folder / "curated")})
        run_stages(config)
        result = json.loads((folder / "curated" / "funnel.json").read_text(encoding="utf-8"))
        reasons = {f"{row['name']}: {reason}": count for row in result["stages"]
                   for reason, count in row["reasons"].items()}
        made = folder / "curated" / "kept.jsonl"
    with open(made, "rb") as lines:
        came = sum(1 for _ in lines)
    kept = write_lines(folder / "kept.jsonl", lines_of([made]))
    return {"kept": kept, "reasons": reasons | ({"duplicate": came - kept} if came > kept else {})}


def curation_of(config: Any) -> Any:
    """The config of `jitune data curate` that the section `curate` is a part of."""
    from jitune.construct.curate import config as curation

    found = curation.defaults()
    found.stages = config.curate.stages
    curation.widen(found)
    found.update({**config.curate.to_dict(), "seed": config.seed})
    return found


def stages_of(config: Any) -> list:
    """The stages that what is made goes through. Raises UserError, naming the option, for those that cannot be."""
    from jitune.construct.curate import config as curation
    from jitune.construct.curate import table

    try:
        found = curation_of(config)
        found.update({"input": "made.jsonl", "output_dir": "curated"})
        curation.check(found)
        return [table.build(spec) for spec in curation.specs(found)]
    except UserError as error:
        raise UserError(within("curate", str(error))) from None


def lines_of(paths: Iterable[Path], *, but: Iterable[str] = ()) -> Iterable[bytes]:
    """The lines of files of records, each record once. but: ids of those that are left out."""
    seen = set(but)
    for path in paths:
        with open(path, "rb") as lines:
            for line in lines:
                id = json.loads(line)["id"]
                if id not in seen:
                    seen.add(id)
                    yield line


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Writes a file of lines, whole; returns their number."""
    count = 0
    with whole_file(path) as file:
        for line in lines:
            file.write(line)
            count += 1
    return count


def pool(run: Run, number: int, folder: Path) -> dict[str, Any]:
    """Puts together what the round trains on: the prompts' own answers, earlier rounds' data, its own.

    A result that a prompt has in its meta alone is not learned: it would teach to leave out the way to it.
    """
    first = {"none": number, "previous": max(1, number - 1), "all": 1}[run.recipe.pool]
    own = [r for r in run.problems.problems if is_answered(r)] if run.recipe.own_answers else []
    parts = [folder_of(run, t) / "kept.jsonl" for t in range(first, number + 1)]
    count = write_lines(folder / "pool.jsonl", chain(map(to_line, own), lines_of(parts, but=[r.id for r in own])))
    return {"records": count, "own_answers": len(own), "rounds": list(range(first, number + 1))}


def train(run: Run, number: int, folder: Path) -> dict[str, Any]:
    """Trains the first model, or that of the round before, as `jitune train` does."""
    from jitune import export
    from jitune.train import train as tune
    from jitune.transforms.build import is_adapter

    run.models.release()
    config = training_config(run, number)
    tune(config, resume=(folder / "train" / "config.json").exists())
    if is_adapter(config.transform) and run.recipe.start == "last" and not (folder / "merged").exists():
        shutil.rmtree(folder / "merged.partial", ignore_errors=True)
        export.export(folder / "train", folder / "merged.partial")
        (folder / "merged.partial").rename(folder / "merged")
    rows = [json.loads(line) for line in (folder / "train" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {"steps": rows[-1]["step"], "loss_first": rows[0]["loss"], "loss_last": rows[-1]["loss"],
            "tokens": int(sum(row.get("tokens") or 0 for row in rows)), "from": name_of(run, start_of(run, number)),
            "digest": run.models.digest(model_of(run, number))}


def training_config(run: Run, number: int) -> Any:
    """The config of a round's training."""
    from jitune import config as training

    folder, config = folder_of(run, number), training.defaults()
    config.update(run.config.train.to_dict())
    config.model.path = str(model_of(run, start_of(run, number)))
    config.data.train, config.output_dir = str(folder / "pool.jsonl"), str(folder / "train")
    config.objective.name, config.optimizer.learning_rate = run.recipe.objective, run.recipe.learning_rate
    return config


def measure(run: Run, number: int, folder: Path) -> dict[str, Any]:
    """Held-out accuracy of the round's model, and the suite where one is named."""
    model, tokens, found = model_of(run, number), Counter(), None
    if run.heldout:
        generator = run.models.open_own(model, name=name_of(run, number), cache=folder / "heldout.jsonl")
        try:
            found = evaluate.measure(asked(generator, tokens), run.heldout.problems, run.verify,
                                     max_tokens=run.config.sampling.max_tokens)
        finally:
            generator.close()
    write_json(folder / "eval.json", found or {})
    numbers = {}
    if run.suite:
        from jitune.evals import during

        numbers = during.run(run.suite, run.models.load(model), out=folder / "evals", step=number, say=run.say,
                             digest=run.models.digest(model))
    return {"accuracy": found and found["accuracy"], "unscored": found and found["unscored"], "tokens": dict(tokens),
            "suite": numbers}


def check(run: Run, number: int, folder: Path) -> dict[str, Any]:
    """What speaks of collapse, beside the round before."""
    before = records(folder_of(run, number - 1) / "kept.jsonl") if number > 1 else None
    found = {"round": number, **collapse.measure(records(folder / "kept.jsonl"), before)}
    found["judge_drift"] = read_state(folder)["make"]["judge_drift"]
    write_json(folder / "checks.json", found)
    return {}
