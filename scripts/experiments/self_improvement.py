"""python scripts/experiments/self_improvement.py --out runs/improvement [--methods rft star ...] [--quick]

A small model that solves a part of some arithmetic stories answers others, learns from its right answers, and again.
All from scratch. From the repository's root (or with PYTHONPATH=. where jitune is not installed). --quick takes a
few minutes, and its numbers mean nothing.

Out, in OUT:

    data/, base/, read/   loose sums, and stories without solutions; a fresh model; that model trained on these
    seed-S/data/          worked.jsonl: a few stories with solutions; prompts.jsonl: these and many more, all with their
                          result alone; all.jsonl: prompts.jsonl with solutions; heldout.jsonl
    seed-S/start/         the model tuned on worked.jsonl: what is improved
    seed-S/METHOD/        two rounds of `jitune improve` each
    seed-S/control/       the start trained on worked.jsonl alone for as many further steps as the two rounds took
    seed-S/experts/       the start trained on all.jsonl for as many steps as a round: what experts' solutions give
    table.md              held-out accuracy by round, over seeds

A part that is there is not made again, and a run that was stopped continues. Stories are held out by the hash of their
numbers and their kind. A seed draws the stories, the order of training and the samples; what is read is the same for
all seeds. The control takes as many steps as both rounds together, though each round starts from the start: it is
measured after each half.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from pathlib import Path

from common import interval, markdown, read_rows, write_rows

from jitune import compile_cache, host_memory

SIZES = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
         "rope_theta": 1000.0, "tie_word_embeddings": True, "initializer_range": 0.06}  # fmt: skip
VOCABULARY, TOKENS = 1024, 64
METHODS = {"rft": {"samples": 4}, "rest_em": {"samples": 4, "keep": 4}, "star": {}, "lmsi": {"samples": 4}}
ROUNDS = 2
SIGNS = {"+": "plus", "-": "minus", "*": "times"}
# One in so many stories is held out; of sums and differences the model reads this share, and all products.
HELD_OUT, READ = 5, 0.7
NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jon")
THINGS = ("apples", "books", "cards", "coins", "eggs", "marbles", "pens", "shells", "stamps", "stones")
# Of each kind of story: how it is told, in two ways, and its two steps, of which the second takes the first's result d.
STORIES = (
    (("{n} has {a} {t}. {n} gets {b} more and gives away {c}. How many {t} are left?",
      "{n} finds {a} {t} and then {b} more, but loses {c}. How many {t} does {n} have?"), ("a+b", "d-c")),
    (("There are {a} boxes with {b} {t} in each. {n} takes {c} {t}. How many remain?",
      "{n} packs {a} bags of {b} {t} and sells {c} {t}. How many {t} are left?"), ("a*b", "d-c")),
    (("{n} has {a} {t}. {m} has {b} more than {n}. How many {t} do they have together?",
      "{n} owns {a} {t} and {m} owns {b} more. How many is that in all?"), ("a+b", "a+d")),
    (("{n} buys {a} {t} for {b} coins each and a bag for {c} coins. What does it cost?",
      "{a} {t} cost {b} coins each, and a box {c} coins. What does {n} pay?"), ("a*b", "d+c")),
    (("{n} had {a} {t} and gave {b} to {m}. Then {n} got {c} new ones. How many now?",
      "From {a} {t} {n} sells {b} and later buys {c}. How many {t} are there then?"), ("a-b", "d+c")),
    (("{n} has {a} {t}, {m} has {b} fewer. How many {t} do both have?",
      "{n} counts {a} {t} and {m} counts {b} fewer. How many are counted in all?"), ("a-b", "a+d")),
)  # fmt: skip


def main() -> None:
    """The experiment, top to bottom."""
    a = parse()
    host_memory.keep_pages()
    compile_cache.use_cache()
    a.out.mkdir(parents=True, exist_ok=True)
    make_base(a)
    for seed in range(a.first_seed, a.seeds):
        folder = make_seed(a, seed)
        start = folder / "start" / "train" / "final"
        tune(a, folder / "start", a.out / "read" / "train" / "final", folder / "data" / "worked.jsonl", seed)
        for method in a.methods:
            improved(a, folder, seed, method)
        tune(a, folder / "control" / "1", start, folder / "data" / "worked.jsonl", seed + 100)
        tune(a, folder / "control" / "2", folder / "control" / "1" / "train" / "final",
             folder / "data" / "worked.jsonl", seed + 200)  # fmt: skip
        tune(a, folder / "experts", start, folder / "data" / "all.jsonl", seed + 100)
        for model in (folder / "start", folder / "control" / "1", folder / "control" / "2", folder / "experts"):
            measured(a, model, folder / "data" / "heldout.jsonl")
        write_table(a)
    print((a.out / "table.md").read_text(encoding="utf-8"))


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--first_seed", type=int, default=0, help="to run a part of the seeds")
    p.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    p.add_argument("--worked", type=int, default=0, help="stories with solutions (150; 60 with --quick)")
    p.add_argument("--prompts", type=int, default=0, help="stories with results alone (350; 40 with --quick)")
    p.add_argument("--steps", type=int, default=0, help="of each training (200; 60 with --quick)")
    p.add_argument("--reading_steps", type=int, default=0, help="(1000; 300 with --quick)")
    p.add_argument("--quick", action="store_true")
    a = p.parse_args()
    for name, whole, quick in (("worked", 150, 60), ("prompts", 350, 40), ("steps", 200, 60),
                               ("reading_steps", 1000, 300)):  # fmt: skip
        setattr(a, name, getattr(a, name) or (quick if a.quick else whole))
    a.heldout = 40 if a.quick else 300
    return a


# Stories


def story(rng: random.Random, *, held_out: bool) -> tuple[str, str, int]:
    """(question, solution, result) of a story on one side of the split."""
    while True:
        kind = rng.randrange(len(STORIES))
        ways, steps = STORIES[kind]
        a, b = (rng.randint(2, 5), rng.randint(2, 5)) if "*" in steps[0] else (rng.randint(3, 14), rng.randint(2, 9))
        values = {"a": a, "b": b, "c": rng.randint(2, 9)}
        lines = []
        for step in steps:
            left, right = values[step[0]], values[step[2]]
            values["d"] = {"+": left + right, "-": left - right, "*": left * right}[step[1]]
            lines.append(f"{left}{step[1]}{right}=<<{left}{step[1]}{right}={values['d']}>>{values['d']}")
            if values["d"] < 0:
                break
        key = f"{kind} {a} {b} {values['c'] if any('c' in s for s in steps) else ''}"
        if values["d"] >= 0 and (hash_of(key) % HELD_OUT == 0) == held_out:
            n, m = rng.sample(NAMES, 2)
            told = rng.choice(ways).format(n=n, m=m, t=rng.choice(THINGS), **values)
            return told, "\n".join([*lines, f"Answer: {values['d']}"]), values["d"]


def hash_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def stories(rng: random.Random, count: int, *, held_out: bool = False, taken=()) -> list[tuple[str, str, int]]:
    """Different stories."""
    found: dict[str, tuple] = {}
    while len(found) < count:
        one = story(rng, held_out=held_out)
        if one[0] not in taken:
            found.setdefault(one[0], one)
    return list(found.values())


def loose_sum(rng: random.Random) -> dict:
    """A sum by itself, of those that the model may see before it is tuned."""
    while True:
        sign = rng.choice("++--*")
        a, b = (rng.randint(2, 5), rng.randint(2, 5)) if sign == "*" else (rng.randint(2, 25), rng.randint(2, 25))
        if sign == "*" or (sign == "+" or a >= b) and hash_of(f"{a}{sign}{b}") % 100 < 100 * READ:
            break
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    asked = f"What is {a} {SIGNS[sign]} {b}?"
    return problem(asked, result, f"{a}{sign}{b}=<<{a}{sign}{b}={result}>>{result}\nAnswer: {result}")


def problem(question: str, answer: int, solution: str = "") -> dict:
    """A row as `jitune improve` reads it; without a solution its result is in the meta."""
    messages = [{"role": "user", "content": question}]
    messages += [{"role": "assistant", "content": solution}] if solution else []
    return {"id": f"{hash_of(question + solution):016x}", "messages": messages, "meta": {"answer": str(answer)},
            "provenance": {}}  # fmt: skip


# Models


def make_base(a) -> None:
    """A fresh model that reads stories and sums, in read/train/final."""
    from jitune.hub import fresh
    from jitune.models.families import FAMILIES

    folder = a.out / "data"
    sums, text = folder / "sums.jsonl", folder / "stories.jsonl"
    if not text.exists():
        folder.mkdir(exist_ok=True)
        rng = random.Random("read")
        number = 600 if a.quick else 6000
        write_rows(sums, (loose_sum(rng) for _ in range(4 * number)))
        write_rows(text, ({"text": question} for question, _, _ in stories(rng, number // 4)))
        write_rows(folder / "both.jsonl", read_rows(sums) + read_rows(text))  # for the tokenizer
    if not (a.out / "base").exists():
        FAMILIES["llama"].presets["experiment"] = SIZES
        made = fresh.create(a.out / "base", family="llama", preset="experiment", vocab_size=VOCABULARY,
                            tokenizer_from=str(folder / "both.jsonl"))  # fmt: skip
        print(fresh.describe(made))
    tune(a, a.out / "read", a.out / "base", f"{sums},{text}", 0, steps=a.reading_steps)


def make_seed(a, seed: int) -> Path:
    """Writes the stories of a seed; returns its folder."""
    folder = a.out / f"seed-{seed}"
    data, rng = folder / "data", random.Random(f"stories {seed}")
    if not (data / "all.jsonl").exists():
        data.mkdir(parents=True, exist_ok=True)
        known = stories(rng, a.worked + a.prompts)
        write_rows(data / "heldout.jsonl", (problem(q, n) for q, _, n in stories(rng, a.heldout, held_out=True)))
        write_rows(data / "prompts.jsonl", (problem(q, n) for q, _, n in known))
        write_rows(data / "worked.jsonl", (problem(q, n, s) for q, s, n in known[: a.worked]))
        write_rows(data / "all.jsonl", (problem(q, n, s) for q, s, n in known))
    return folder


def training(config, steps: int, seed: int) -> None:
    """Sets the options of a training run."""
    config.update({"seq_len": 256, "batch_size": 4, "loss_chunk": 1024, "steps": steps, "seed": seed, "loggers": ""})
    config.mesh.update({"data": -1, "fsdp": 1})
    config.optimizer.update({"name": "muon", "learning_rate": 1e-2, "b2": 0.98, "weight_decay": 0.01,
                             "final_ratio": 0.05})  # fmt: skip


def tune(a, out: Path, model: Path, data: Path | str, seed: int, *, steps: int = 0) -> None:
    """One run of `jitune train` in out/train."""
    from jitune import config as configs
    from jitune.train import train

    if (out / "train" / "final").exists():
        return
    config = configs.defaults()
    config.model.path, config.data.train, config.output_dir = str(model), str(data), str(out / "train")
    training(config, steps or a.steps, seed)
    train(config, resume=(out / "train" / "config.json").exists())


def improved(a, folder: Path, seed: int, method: str) -> None:
    """Two rounds of `jitune improve`."""
    from jitune.construct.improve import config as configs
    from jitune.construct.improve.run import improve
    from jitune.construct.improve.summary import table

    out = folder / method
    if not (out / "summary.json").exists():
        config = configs.defaults()
        config.model.path, config.output_dir = str(folder / "start" / "train" / "final"), str(out)
        config.prompts, config.heldout = (str(folder / "data" / f"{n}.jsonl") for n in ("prompts", "heldout"))
        config.method, config.verifier.name, config.rounds, config.seed = method, "math", ROUNDS, seed
        config.sampling.update({"max_tokens": TOKENS, **METHODS[method]})
        config.generator.update({"batch_size": 64, "max_length": 192})
        config.limits.update({name: -1.0 for name in config.limits if name != "records"})  # all rounds are wanted
        training(config.train, a.steps, seed)
        improve(config, say=lambda text: print(text, flush=True))
    print("\n".join(table(json.loads((out / "summary.json").read_text(encoding="utf-8")))), flush=True)


def measured(a, out: Path, heldout: Path) -> None:
    """The held-out accuracy of a model beside it, as `jitune improve` measures it."""
    from jitune.construct.improve import evaluate
    from jitune.construct.improve.makers import Asked
    from jitune.construct.improve.problems import read_problems
    from jitune.construct.verify.table import open_verifier
    from jitune.generators.open import open_generator

    if (out / "result.json").exists():
        return
    section = {"model": str(out / "train" / "final"), "batch_size": 64, "max_length": 192}
    generator = open_generator(section)
    with open_verifier("math") as verify:
        found = evaluate.measure(Asked(generator.answer, generator.identity),
                                 read_problems(str(heldout), option="heldout").problems, verify, max_tokens=TOKENS)
    generator.close()
    share = found["right"] / len(found["answers"])
    (out / "result.json").write_text(json.dumps({"right": share, "n": len(found["answers"])}) + "\n", encoding="utf-8")
    print(f"{out.relative_to(a.out)}: {share:.1%} of the held-out stories", flush=True)


# The table


def write_table(a) -> None:
    """Writes table.md of the seeds whose every part is there."""
    parts = ("experts/result.json", *(f"{method}/summary.json" for method in a.methods))
    seeds = [s for s in range(a.seeds) if all((a.out / f"seed-{s}" / part).exists() for part in parts)]
    start = of_seeds(a, seeds, "start")
    lines = [["", "held-out accuracy, %", "gain in points", *(f"seed {s}" for s in seeds)]]

    def add(name: str, values: list[float]) -> None:
        gains = [v - b for v, b in zip(values, start, strict=True)]
        lines.append([name, interval(values), "" if name == "start" else interval(gains, signed=True),
                      *(f"{100 * v:.1f}" for v in values)])  # fmt: skip

    add("start", start)
    methods: dict[tuple[str, int], list[float]] = {}
    made = [["method", "round", *(f"kept, seed {s}" for s in seeds), "tokens written", "seconds"]]
    for method in a.methods:
        found = [json.loads((a.out / f"seed-{s}" / method / "summary.json").read_text(encoding="utf-8"))["rounds"]
                 for s in seeds]  # fmt: skip
        for number in range(1, ROUNDS + 1):
            rounds = [r[number] for r in found]
            methods[method, number] = [right(r) for r in rounds]
            add(f"{method}, round {number}", methods[method, number])
            made.append([method, str(number), *(f"{r['kept']:,}" for r in rounds),
                         f"{mean(r['tokens']['generating']['output_tokens'] for r in rounds):,.0f}",
                         f"{mean(sum(r['seconds'].values()) for r in rounds):.0f}"])  # fmt: skip
    for number in range(1, ROUNDS + 1):
        add(f"control, {number * a.steps} further steps", of_seeds(a, seeds, f"control/{number}"))
    add("experts' solutions to all prompts", of_seeds(a, seeds, "experts"))
    for (method, number), values in methods.items():
        over = [v - c for v, c in zip(values, of_seeds(a, seeds, f"control/{number}"), strict=True)]
        lines.append([f"{method}, round {number}, over the control", "", interval(over, signed=True),
                      *(f"{100 * v:+.1f}" for v in over)])  # fmt: skip
    head = (f"{len(seeds)} seeds; {a.worked} stories with solutions, {a.prompts:,} more with results alone; {a.steps} "
            f"steps a round; {a.heldout} held-out stories.")  # fmt: skip
    (a.out / "table.md").write_text("\n\n".join([head, markdown(lines), markdown(made)]) + "\n", encoding="utf-8")


def of_seeds(a, seeds: list[int], name: str) -> list[float]:
    return [read_rows(a.out / f"seed-{s}" / name / "result.json")[0]["right"] for s in seeds]


def right(one: dict) -> float:
    """The share of all held-out stories; what could not be judged is wrong."""
    accuracy = one["accuracy"]
    return (accuracy["value"] or 0.0) * accuracy["n"] / (accuracy["n"] + one["unscored"])


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
