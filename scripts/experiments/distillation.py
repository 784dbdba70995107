"""python scripts/experiments/distillation.py --out runs/distillation [--seeds 3] [--records 400] [--steps N] [--quick]

A larger model is tuned until it can do eleven small tasks; what does a small model learn from it, beside what it learns
from as many records of experts? All from scratch. From the repository's root (or with PYTHONPATH=. where jitune is not
installed). --quick takes a few minutes, and its numbers mean nothing.

Out, in OUT:

    data/                what the student reads before, the teacher's records, the test
    student/, teacher/   fresh models (`jitune init`); student/final: after it has read questions without answers, and
                         words that come twice; teacher/tuned/final: the teacher
    seed-S/data/         the experts' records, and what the teacher made, curated; seed-S/store/: its likeliest tokens
    seed-S/RUN/          one run of `jitune train` each, and its result.json
    table.md             shares of the test that are right, over seeds, with what each row has cost

A part whose result is there is not made again, and a training run that was stopped continues. Questions of the test are
held out by the hash of their content (see `jitune.quickstart.tasks`), for the teacher too; what the teacher writes is
decontaminated against the test. A seed draws the experts' records, what the teacher samples, and the order of training.
The teacher and the student's base are the same for all seeds.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from common import interval, markdown, read_rows, write_rows

from jitune import compile_cache, host_memory

TASKS = ("repeat", "reverse", "pick", "count", "belongs", "opposite", "lowercase", "larger", "initials", "sort",
         "json")
SIZES = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": 512,
         "rms_norm_eps": 1e-6, "rope_theta": 1000.0, "tie_word_embeddings": True, "initializer_range": 0.06}
STUDENT = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2}
TEACHER = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4}
VOCABULARY, ANSWER_TOKENS, TOP_K = 1024, 40, 32
# Row of the table -> (data, objective). What is not said of an objective is as `jitune train` has it. steps: another
# part of the steps; stored: the teacher's likeliest tokens in its place; after: the row whose model is trained on.
DISTILL = {"name": "distill", "divergence": "forward", "sft_weight": 0.0}
GKD = {**DISTILL, "divergence": "jsd", "on_policy": 0.5, "max_new_tokens": 24}
ROWS = {
    "experts, N": ("experts", {}),
    "experts, N, a third of the steps": ("experts", {"steps": 1 / 3}),
    "experts, 4N": ("experts4", {}),
    "teacher's answers to the N prompts": ("answers", {}),
    "teacher's own N": ("magpie", {}),
    "teacher's own 4N": ("magpie4", {}),
    "experts, N; forward KL": ("experts", DISTILL),
    "experts, N; forward KL, stored top-k": ("experts", {**DISTILL, "stored": True}),
    "experts, N; reverse KL": ("experts", {**DISTILL, "divergence": "reverse"}),
    "experts, N; GKD": ("experts", GKD),
    "experts, N, then GKD": ("experts", {**GKD, "after": "experts, N", "steps": 1 / 2}),
    "teacher's own 4N; forward KL": ("magpie4", DISTILL),
}


def main() -> None:
    """The experiment, top to bottom."""
    a = parse()
    host_memory.keep_pages()
    compile_cache.use_cache()
    a.out.mkdir(parents=True, exist_ok=True)
    write_data(a)
    make_models(a)
    measured(a, a.out / "student" / "final", a.out / "student" / "result.json")
    measured(a, a.out / "teacher" / "tuned" / "final", a.out / "teacher" / "result.json")
    for seed in range(a.seeds):
        make_seed(a, seed)
        for name in a.rows:
            run(a, seed, name)
        write_table(a)
    print((a.out / "table.md").read_text(encoding="utf-8"))


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--records", type=int, default=0, help="N, of experts (400; 30 with --quick)")
    p.add_argument("--steps", type=int, default=0, help="of each run (300; 5 with --quick)")
    p.add_argument("--reading_steps", type=int, default=0, help="of the student's base (1500; 5 with --quick)")
    p.add_argument("--teacher_steps", type=int, default=0, help="(2400; 10 with --quick)")
    p.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="these alone")
    p.add_argument("--quick", action="store_true")
    a = p.parse_args()
    a.records = a.records or (30 if a.quick else 400)
    a.steps = a.steps or (5 if a.quick else 300)
    a.reading_steps = a.reading_steps or (5 if a.quick else 1500)
    a.teacher_steps = a.teacher_steps or (10 if a.quick else 2400)
    a.per_task = 2 if a.quick else 40
    return a


# Data and models


def write_data(a) -> None:
    """Writes data/: text.jsonl (no answers), teacher.jsonl, test.jsonl."""
    folder = a.out / "data"
    if (folder / "test.jsonl").exists():
        return
    folder.mkdir(exist_ok=True)
    number = 500 if a.quick else 30_000
    rng = random.Random("teacher")
    drawn = [draw(rng) for _ in range(number)]
    read = [q.prompt if number % 2 else echo(rng) for number, q in enumerate(drawn)]
    write_rows(folder / "text.jsonl", ({"text": text} for text in read))
    write_rows(folder / "teacher.jsonl", (q.row() for q in drawn))
    write_rows(folder / "test.jsonl", (q.row() for q in test_questions(a)))


def draw(rng: random.Random):
    """A question that is not held out; tasks that take long to learn come more often, as in the quickstart."""
    from jitune.quickstart import tasks

    (task,) = rng.choices(TASKS, [tasks.WEIGHTS.get(name, 1) for name in TASKS])
    return tasks.draw(task, rng, held_out=False)


def echo(rng: random.Random) -> str:
    """Words, names or numbers, twice over, as texts repeat themselves; none of the test's."""
    from jitune.quickstart import tasks
    from jitune.quickstart.words import NAMES, WORDS

    while True:
        some = rng.choice((WORDS, WORDS, NAMES, [str(n) for n in range(10, 60)]))
        found = " ".join(rng.sample(some, rng.randint(2, 6)))
        if not tasks.is_held_out("repeat", found):
            return f"{found}\n{found}"


def test_questions(a) -> list:
    """The test: held-out questions, as many of each task."""
    from jitune.quickstart import tasks

    return [q for q in tasks.write_test(a.per_task, seed=0) if q.task in TASKS]


def make_models(a) -> None:
    """Fresh models of one tokenizer; the student reads, the teacher is tuned on whole conversations, for Magpie."""
    from jitune.hub import fresh
    from jitune.models.families import FAMILIES

    for name, sizes in (("student", STUDENT), ("teacher", TEACHER)):
        base = a.out / name / "base"
        if not base.exists():
            FAMILIES["llama"].presets[f"experiment {name}"] = {**SIZES, **sizes}
            source = a.out / "student" / "base" if name == "teacher" else a.out / "data" / "teacher.jsonl"
            made = fresh.create(base, family="llama", preset=f"experiment {name}", vocab_size=VOCABULARY,
                                tokenizer_from=str(source))  # fmt: skip
            print(f"{name}: {fresh.describe(made)}")
    student, teacher = a.out / "student", a.out / "teacher"
    tune(a, student, model=student / "base", data=a.out / "data" / "text.jsonl", steps=a.reading_steps)
    tune(a, teacher / "tuned", model=teacher / "base", data=a.out / "data" / "teacher.jsonl", steps=a.teacher_steps,
         train_on="all")  # fmt: skip


def config_of(a, out: Path, *, model: Path, data: Path, steps: int, seed: int = 0,
              train_on: str = "assistant", objective: dict[str, Any] | None = None):  # fmt: skip
    """The config of a run of `jitune train`."""
    from jitune import config as configs

    config = configs.defaults()
    config.model.path, config.data.train, config.output_dir = str(model), str(data), str(out / "run")
    config.data.train_on = train_on
    config.update({"seq_len": 128, "batch_size": 8, "loss_chunk": 1024, "steps": steps, "seed": seed, "loggers": ""})
    config.mesh.update({"data": -1, "fsdp": 1})
    config.optimizer.update({"name": "muon", "learning_rate": 1e-2, "b2": 0.98, "weight_decay": 0.01,
                             "final_ratio": 0.05})  # fmt: skip
    config.objective.update(objective or {})
    return config


def tune(a, out: Path, **options: Any) -> float:
    """One run of `jitune train` in `out`; its weights are out/final. Returns its seconds, 0 where it was there."""
    from jitune.train import train

    if (out / "final").exists():
        return 0.0
    began, config = time.perf_counter(), config_of(a, out, **options)
    train(config, resume=(out / "run" / "config.json").exists())
    shutil.move(out / "run" / "final", out / "final")
    return time.perf_counter() - began


def measured(a, model: Path, path: Path, **more: Any) -> dict:
    """The share of the test that a model answers rightly, in a file; measured once. Answers that are cut are wrong."""
    from jitune import sharding
    from jitune.evals.engine.engine import open_engine
    from jitune.evals.run import evaluate
    from jitune.hub import weights
    from jitune.quickstart import measure

    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    found = weights.load(model, dtype="float32", mesh=sharding.make_mesh(-1, 1, 1))
    shared = MODELS.setdefault(found.config.dim, found.model)  # so that it is compiled once
    engine = open_engine(found._replace(model=shared), batch_size=64)
    questions = test_questions(a)
    results = evaluate(engine, measure.make_tasks(questions, max_new_tokens=ANSWER_TOKENS), path.parent / "eval",
                       model=measure.describe(found, model), progress=False)
    right = results["tasks"]["quickstart_utility"]["metrics"]["right"]
    result = {**more, "right": round(right["value"] * right["n"]) / len(questions), "n": len(questions)}
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(f"{path.parent.relative_to(a.out)}: {result['right']:.1%} of the test", flush=True)
    return result


# Seeds


def make_seed(a, seed: int) -> None:
    """The data of a seed: the experts' N and 4N records, the teacher's answers to the N prompts, its own N and 4N."""
    folder, n = a.out / f"seed-{seed}" / "data", a.records
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "experts4.jsonl").exists():
        rng, found = random.Random(f"experts {seed}"), {}
        while len(found) < 4 * n:
            question = draw(rng)
            found.setdefault(question.prompt, question)
        rows = [q.row() for q in found.values()]
        write_rows(folder / "experts.jsonl", rows[:n])
        write_rows(folder / "experts4.jsonl", rows)
    if not (folder / "answers.jsonl").exists():
        kept = distilled(a, seed, "respond", input=str(folder / "experts.jsonl"),
                         options={"temperature": 0.0, "max_tokens": ANSWER_TOKENS})  # fmt: skip
        shutil.copyfile(kept, folder / "answers.jsonl")
    if not (folder / "magpie4.jsonl").exists():
        options = {"count": 6 * n, "qualities": "", "duplicates": "exact", "instruction_tokens": 64,
                   "answer_tokens": ANSWER_TOKENS, "step": 6 * n}  # fmt: skip
        rows = read_rows(distilled(a, seed, "magpie", options=options))
        if len(rows) < 4 * n:
            print(f"seed {seed}: {len(rows)} records are left of {6 * n} that the teacher wrote; {4 * n} were wanted")
        write_rows(folder / "magpie.jsonl", rows[:n])
        write_rows(folder / "magpie4.jsonl", rows[: 4 * n])


def distilled(a, seed: int, method: str, *, options: dict[str, Any], input: str = "") -> Path:
    """`jitune data distill`, then `jitune data curate`: the file of records that are left."""
    from jitune.construct.curate import config as curation
    from jitune.construct.curate.run import curate
    from jitune.construct.distill import config as distillation
    from jitune.construct.distill.run import distill, summary

    folder = a.out / f"seed-{seed}" / method
    config = distillation.defaults()
    config.update({"method": method, "input": input, "seed": seed, "output_dir": str(folder / "distilled")})
    config.teacher.update({"model": str(a.out / "teacher" / "tuned" / "final"), "batch_size": 64, "max_length": 160})
    config[method].update(options)
    print(summary(distill(config)), flush=True)
    config = curation.defaults()
    config.update({"input": str(folder / "distilled" / "kept.jsonl"), "output_dir": str(folder / "curated"),
                   "stages": "empty,exact,decontaminate", "workers": 0})  # fmt: skip
    config.exact.of, config.decontaminate.against = "prompt", str(a.out / "data" / "test.jsonl")
    return curate(config) / "kept.jsonl"


def run(a, seed: int, name: str) -> None:
    """One row of a seed: trained and measured, or what is there of it."""
    data, objective = ROWS[name]
    folder = a.out / f"seed-{seed}"
    out = folder_of(folder, name)
    if (out / "result.json").exists():
        return
    objective, teacher = dict(objective), str(a.out / "teacher" / "tuned" / "final")
    options = {"model": a.out / "student" / "final", "data": folder / "data" / f"{data}.jsonl", "steps": a.steps,
               "seed": seed}  # fmt: skip
    options["steps"] = max(1, round(options["steps"] * objective.pop("steps", 1)))
    if after := objective.pop("after", ""):
        run(a, seed, after)
        options["model"] = folder_of(folder, after) / "final"
    storing = 0.0
    if objective.pop("stored", False):
        storing = store(a, folder / "store", teacher, options)
        objective["store"] = str(folder / "store")
    elif objective:
        objective["teacher"] = teacher
    seconds = tune(a, out, objective=objective, **options)
    rows = read_rows(out / "run" / "metrics.jsonl")
    measured(a, out / "final", out / "result.json", row=name, seed=seed, seconds=seconds, storing=storing,
             tokens=sum(r.get("tokens") or 0 for r in rows), records=len(read_rows(options["data"])))  # fmt: skip


def folder_of(seed: Path, name: str) -> Path:
    return seed / "".join(c if c.isalnum() else "_" for c in name)


def store(a, folder: Path, teacher: str, options: dict[str, Any]) -> float:
    """`jitune data teacher`; returns its seconds."""
    from jitune.construct.distill.teacher import write_stores

    began = time.perf_counter()
    config = config_of(a, folder, objective={"name": "distill", "teacher": teacher}, **options)
    write_stores(config, folder, k=TOP_K)
    return time.perf_counter() - began


MODELS: dict = {}  # width -> the model whose functions are compiled already


# The table


def write_table(a) -> None:
    """Writes table.md of what there is."""
    found = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(a.out.glob("seed-*/*/result.json"))]
    by_row = {name: {r["seed"]: r for r in found if r["row"] == name} for name in a.rows}
    student, teacher = (json.loads((a.out / n / "result.json").read_text(encoding="utf-8")) for n in
                        ("student", "teacher"))  # fmt: skip
    first = by_row.get("experts, N", {})
    lines = [["trained on", "right, %", "over experts, N", *(f"seed {s}" for s in range(a.seeds)), "training"],
             ["the student's base", f"{100 * student['right']:.1f}", *[""] * (a.seeds + 2)]]  # fmt: skip
    for name, runs in by_row.items():
        both = [runs[s]["right"] - first[s]["right"] for s in runs if s in first]
        lines.append([name, interval([r["right"] for r in runs.values()]),
                      interval(both, signed=True) if name != "experts, N" else "",
                      *(f"{100 * runs[s]['right']:.1f}" if s in runs else "" for s in range(a.seeds)),
                      f"{statistics.mean(r['seconds'] for r in runs.values()):.0f} s" if runs else ""])  # fmt: skip
    lines.append(["the teacher", f"{100 * teacher['right']:.1f}", *[""] * (a.seeds + 2)])
    head = f"{a.seeds} seeds, N = {a.records}, {a.steps} steps each; {student['n']} held-out questions."
    text = [head, markdown(lines), "What the teacher wrote:", markdown(costs(a))]
    (a.out / "table.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")


def costs(a) -> list[list[str]]:
    """A line for each method of making data and each seed."""
    lines = [["method", "seed", "asked", "kept", "left by curation", "tokens written", "seconds"]]
    for method in ("respond", "magpie"):
        for seed in range(a.seeds):
            folder = a.out / f"seed-{seed}" / method
            if not (folder / "curated" / "funnel.json").exists():
                continue
            made, left = (json.loads((folder / part / "funnel.json").read_text(encoding="utf-8"))
                          for part in ("distilled", "curated"))  # fmt: skip
            account, counts = made["generators"]["teacher"]["account"], made["records"]
            lines.append([method, str(seed), f"{counts['kept'] + counts['rejected']:,}", f"{counts['kept']:,}",
                          f"{left['records']['kept']:,}", f"{account['output_tokens']:,}",
                          f"{made['seconds']:.0f}"])  # fmt: skip
    return lines


if __name__ == "__main__":
    main()
