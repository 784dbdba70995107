"""python scripts/experiments/adapters.py --out runs/adapters --data ../shared/data [--steps N] [--quick]

Full tuning, LoRA, DoRA, QLoRA, prefix and prompt tuning of one small model on the same real data, each with a sweep of
learning rates and the same number of steps. From the repository's root (or with PYTHONPATH=. where jitune is not
installed). About an hour on two shared CPU cores; --quick takes a few minutes, and its numbers mean nothing.

In: a folder with sft/*.json and corpus/c4_demo.jsonl. Out, in OUT:

    data/pretune.jsonl               what the base learns first: instructions and text that are not of the test's file
    data/train.jsonl, heldout.jsonl  Cherry Alpaca, split by the hash of instruction and input, the same in every run
    base/                            a fresh Llama;  pretune/final: the base that all methods start from
    runs/NAME/                       one run of `jitune train` each, and its result.json
    table.md                         the runs by method, the best learning rate of each, and other seeds

A run whose result.json is there is not run again, and one that was stopped continues. Where the best learning rate is
the highest or the lowest of its sweep, the sweep goes on beyond it. A method's learning rate is chosen by seed 0, and
the other seeds repeat it there.
"""

import argparse
import hashlib
import json
import math
import time
from pathlib import Path
from types import SimpleNamespace

from jitune import compile_cache, host_memory

PRETUNE = (
    "sft/alpaca_en_demo.json", "sft/code_alpaca_2k.json", "sft/llms_from_scratch_instruction_data.json",
    "sft/openai_messages_v1_sft_demo.jsonl", "sft/sharegpt_dummy_conversation.json",
    "sft/glaive_toolcall_en_demo.json", "corpus/c4_demo.jsonl",
)  # fmt: skip
TEST = "sft/cherry_alpaca_5_percent.json"
HELD_OUT = 10  # one in so many rows
SIZES = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": 1024, "rms_norm_eps": 1e-6,
         "rope_theta": 10_000.0, "tie_word_embeddings": True, "initializer_range": 0.06}  # fmt: skip
VOCABULARY = 2048
TEXT = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
LORA16 = {"name": "lora", "rank": 16, "alpha": 32.0}
# Name -> (config.transform, learning rates), or in their place the method whose best rate is taken.
METHODS = {
    "full": ({"name": "full"}, (3e-4, 1e-3, 3e-3)),
    "lora r16": (LORA16, (1e-3, 3e-3, 1e-2)),
    "prefix random": ({"name": "prefix", "init": "random"}, (3e-2, 1e-1, 3e-1)),
    "prefix zero": ({"name": "prefix", "init": "zero"}, (3e-2, 1e-1, 3e-1)),
    "prefix text": ({"name": "prefix", "init": "text", "init_text": TEXT}, (3e-2, 1e-1, 3e-1)),
    "dora r16": ({**LORA16, "name": "dora"}, "lora r16"),
    "qlora r16 nf4": ({**LORA16, "quantize": "nf4"}, "lora r16"),
    "layers alone": ({"name": "select", "select": "^layers/"}, "full"),  # what lora leaves out is the embedding
    "lora r16, embed": ({**LORA16, "train": "embed/embedding"}, "lora r16"),
    "lora r8": ({**LORA16, "rank": 8, "alpha": 16.0}, "lora r16"),
    "prompt random": ({"name": "prompt", "init": "random"}, (3e-2, 1e-1)),
    "prompt text": ({"name": "prompt", "init": "text", "init_text": TEXT}, (3e-2, 1e-1)),
}
REPEATED = ("full", "lora r16", "prefix random", "prefix zero", "prefix text")
FACTOR = 3.0  # between learning rates beyond a sweep's ends
MOST_RATES = 6


def main() -> None:
    """The experiment, top to bottom."""
    a = parse()
    host_memory.keep_pages()
    compile_cache.use_cache()
    a.out.mkdir(parents=True, exist_ok=True)
    write_data(a)
    make_base(a)
    results = []
    for method in a.methods:
        sweep(a, method, METHODS[method][1], results)
        for seed in range(1, a.seeds if method in REPEATED else 1):
            run(a, method, best(results, method)["learning_rate"], seed, results)
        write_table(a, results)
    print((a.out / "table.md").read_text(encoding="utf-8"))


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--data", type=Path, default=Path("../shared/data"))
    p.add_argument("--steps", type=int, default=0, help="of each run (200; 10 with --quick)")
    p.add_argument("--pretune_steps", type=int, default=0, help="of the base (1000; 30 with --quick)")
    p.add_argument("--seeds", type=int, default=0, help="runs of the methods compared, at their best rate (2)")
    p.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="these alone, in this order")
    p.add_argument("--quick", action="store_true", help="two layers, few steps, one learning rate a method")
    a = p.parse_args()
    needed = ["full", *(METHODS[m][1] for m in a.methods if isinstance(METHODS[m][1], str))]
    if missing := [m for m in needed if m not in a.methods]:
        p.error(f"--methods needs {missing[0]!r} too: the others are compared with it, or take its learning rate")
    a.steps = a.steps or (10 if a.quick else 200)
    a.pretune_steps = a.pretune_steps or (30 if a.quick else 1000)
    a.seeds = a.seeds or (1 if a.quick else 2)
    return a


# Data and base


def write_data(a) -> None:
    """Writes data/*.jsonl: pre-tuning rows without those that ask what the test's file asks, and the test's split."""
    folder = a.out / "data"
    if (folder / "heldout.jsonl").exists():
        return
    from jitune.data.sources import read_rows

    folder.mkdir(exist_ok=True)
    test = [row for row, _ in read_rows(str(a.data / TEST))]
    asked = {row["instruction"].strip().lower() for row in test}
    before = [row for name in PRETUNE for row, _ in read_rows(str(a.data / name))]
    kept = [row for row in before if not asked & set(map(str.lower, map(str.strip, questions(row))))]
    print(f"pre-tuning: {len(kept):,} rows; {len(before) - len(kept)} left out, whose instruction is in {TEST}")
    write_rows(folder / "pretune.jsonl", kept)
    chosen = [int(hashlib.sha256((r["instruction"] + r["input"]).encode()).hexdigest(), 16) % HELD_OUT for r in test]
    write_rows(folder / "train.jsonl", [r for r, part in zip(test, chosen, strict=True) if part])
    write_rows(folder / "heldout.jsonl", [r for r, part in zip(test, chosen, strict=True) if not part])


def questions(row) -> list[str]:
    """What a row of any of the formats asks."""
    turns = row.get("conversations") or row.get("messages") or []
    said = [turn.get("value", turn.get("content")) for turn in turns if turn.get("from", turn.get("role")) in
            ("human", "user")]  # fmt: skip
    return [row["instruction"]] if "instruction" in row else [text for text in said if isinstance(text, str)]


def write_rows(path: Path, rows) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def make_base(a) -> None:
    """A fresh model in base/, tuned as a whole on the pre-tuning rows into pretune/final."""
    from jitune.hub import fresh
    from jitune.models.families import FAMILIES
    from jitune.train import train

    if not (a.out / "base").exists():
        sizes = {**SIZES, **({"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                              "num_key_value_heads": 2} if a.quick else {})}  # fmt: skip
        FAMILIES["llama"].presets["experiment"] = sizes
        base = fresh.create(a.out / "base", family="llama", preset="experiment", vocab_size=VOCABULARY,
                            tokenizer_from=str(a.out / "data" / "pretune.jsonl"))  # fmt: skip
        print(fresh.describe(base))
    if not (a.out / "pretune" / "final").exists():
        config = make_config(a, "pretune", {"name": "full"}, 3e-3, seed=0)
        config.model.path, config.steps, config.batch_size = str(a.out / "base"), a.pretune_steps, 8
        config.data.train = str(a.out / "data" / "pretune.jsonl")
        config.data.overlong, config.checkpoint_every = "split", 250
        train(config, resume=True)


def make_config(a, name: str, transform: dict, rate: float, seed: int):
    """The config of a run in OUT/NAME, on the test's data."""
    from jitune import config as configs

    config = configs.defaults()
    config.model.path = str(a.out / "pretune" / "final")
    config.data.train, config.data.eval = (str(a.out / "data" / f"{n}.jsonl") for n in ("train", "heldout"))
    config.seq_len, config.batch_size, config.steps, config.seed = 256, 4, a.steps, seed
    config.optimizer.learning_rate = rate
    config.transform.update(transform)
    config.loggers, config.output_dir = "", str(a.out / name)
    return config


# Runs


def sweep(a, method: str, rates, results) -> None:
    """Runs a method at its learning rates, and beyond while the best is the first or the last of them."""
    if isinstance(rates, str):
        run(a, method, best(results, rates)["learning_rate"], 0, results)
        return
    tried = sorted(rates[1:2] if a.quick else rates)
    for rate in tried:
        run(a, method, rate, 0, results)
    while not a.quick and len(tried) < MOST_RATES:
        top = best(results, method)["learning_rate"]
        if top not in (tried[0], tried[-1]):
            break
        further = float(f"{top * FACTOR if top == tried[-1] else top / FACTOR:.0e}")
        run(a, method, further, 0, results)
        tried = sorted([*tried, further])


def best(results, method: str) -> dict:
    """The run of lowest evaluation loss of a method, of those with seed 0; one that diverged has an infinite loss."""
    return min((r for r in results if r["method"] == method and r["seed"] == 0), key=lambda r: r["eval_loss"])


def run(a, method: str, rate: float, seed: int, results) -> None:
    """One run, or what it gave before; adds its result to the results."""
    from jitune.stopping import NonFiniteError
    from jitune.train import train

    name = f"runs/{method.replace(',', '').replace(' ', '_')}_{rate:g}_{seed}"
    path = a.out / name / "result.json"
    if path.exists():
        results.append(json.loads(path.read_text(encoding="utf-8")))
        return
    config = make_config(a, name, METHODS[method][0], rate, seed)
    print(f"\n{method}, learning rate {rate:g}, seed {seed}", flush=True)
    same = [r for r in results if r["method"] == method and r["seed"] == seed]
    start, trained = (same[0]["start_loss"], same[0]["trained"]) if same else look(config)
    began, loss = time.perf_counter(), math.inf
    try:
        train(config, resume=True)
        loss = json.loads((path.parent / "metrics.jsonl").read_text().splitlines()[-1])["eval_loss"]
    except NonFiniteError as error:
        print(error)
    result = {"method": method, "learning_rate": rate, "seed": seed, "trained": trained, "start_loss": start,
              "eval_loss": loss, "steps": a.steps, "seconds": time.perf_counter() - began}  # fmt: skip
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")
    results.append(result)


def look(config) -> tuple[float, int]:
    """(evaluation loss before the first step, trained parameters) of a run."""
    import jax

    from jitune import compiling, sharding, train, tree
    from jitune import state as states
    from jitune.data import pipeline
    from jitune.hub import weights
    from jitune.models import decoder

    mesh = sharding.make_mesh(**config.mesh)
    base = weights.resolve(config.model.path)
    base_config = weights.read_config(base).replace(**compiling.model_options(config))
    tokenizer = train.take_tokenizer(base, config, base_config)
    tuning = states.make_tuning(config, base_config, tokenizer)
    with jax.set_mesh(mesh), decoder.precision(config.model.dtype):
        frozen, trainable = states.init_weights(tuning, base, mesh, config.seed, stored=False)
        evaluation = pipeline.prepare(config.data, tokenizer, config.seq_len, eval=True)
        part = SimpleNamespace(config=config, mesh=mesh, model=tuning.model, evaluation=evaluation)
        return train.make_evaluation(part)(frozen, trainable), tree.count_params(trainable)


# The table


def write_table(a, results) -> None:
    """Writes table.md."""
    full = best(results, "full")
    methods = list(dict.fromkeys(r["method"] for r in results))
    head = ["method", "learning rate", "trained", "eval loss before", "eval loss", "against full", "seconds"]
    chosen = [row(best(results, m), full) for m in methods]
    every = [row(r, full) for m in methods for r in sorted(results, key=lambda r: r["learning_rate"])
             if r["method"] == m and r["seed"] == 0]  # fmt: skip
    text = [f"{a.steps} steps of 4 x 256 tokens; the base was pre-tuned for {a.pretune_steps} of 8 x 256.",
            "The best learning rate of each method:", table(head, chosen),
            "Every run of seed 0:", table(head, every)]  # fmt: skip
    again = [m for m in REPEATED if any(r["method"] == m and r["seed"] for r in results)]
    if again:
        losses = [[r["eval_loss"] for r in [best(results, m)] + [r for r in results if r["method"] == m and r["seed"]]]
                  for m in again]  # fmt: skip
        rows = [[m, *(f"{x:.4f}" for x in found)] for m, found in zip(again, losses, strict=True)]
        width = max(map(len, rows))
        rows = [r + [""] * (width - len(r)) for r in rows]
        text += ["The best learning rate again with other seeds:",
                 table(["method", *(f"seed {i}" for i in range(width - 1))], rows)]  # fmt: skip
    (a.out / "table.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")


def row(r: dict, full: dict) -> list[str]:
    """A line of the table."""
    against = r["eval_loss"] / full["eval_loss"] - 1
    return [r["method"], f"{r['learning_rate']:g}", f"{r['trained']:,}", f"{r['start_loss']:.4f}",
            f"{r['eval_loss']:.4f}", f"{against:+.1%}", f"{r['seconds']:.0f}"]  # fmt: skip


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    main()
