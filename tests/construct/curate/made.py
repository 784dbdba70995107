"""Inputs and configs for tests of curation."""

import json
from pathlib import Path

from jitune.construct.curate.config import from_words

TOYS = "tests.construct.curate.toy_stages"
ALL = f"{TOYS}:words,{TOYS}:tongue,{TOYS}:redact,{TOYS}:same,{TOYS}:longest,mix,again={TOYS}:words"
FILES = ("kept.jsonl", "rejected.jsonl")
ANSWERS = ("yes it is so", "no", "secret", "a secret thing here", "x", "a much longer answer than the others are")


def rows(count: int) -> list[dict]:
    """Alpaca rows; of six answers four come again and again."""
    return [{"instruction": f"Question {i} {('en', 'fr', 'zh')[i * i % 7 % 3]}", "input": "",
             "output": ANSWERS[i % 6] + (f" {i}" if i % 4 == 0 else "")} for i in range(count)]


def write_inputs(folder: Path, count: int = 60) -> tuple[Path, Path]:
    """Two files: rows and three broken lines, and a list of rows of another licence's size."""
    a, b = folder / "a.jsonl", folder / "b.json"
    made = rows(count)
    lines = [json.dumps(row) for row in made[: count * 2 // 3]]
    lines[3:3] = ["{broken", json.dumps({"instruction": "\ud800", "output": "x"}), '{"a": 1}']
    a.write_text("\n".join(lines) + "\n")
    b.write_text(json.dumps(made[count * 2 // 3 :]))
    return a, b


def config(inputs, out, stages: str = ALL, **given):
    """A config; `longest__keep=20` is config.longest.keep."""
    words = {"input": ",".join(map(str, inputs)), "output_dir": out, "workers": 0, "stages": stages}
    words |= {name.replace("__", "."): value for name, value in given.items()}
    return from_words(None, [f"--config.{name}={value}" for name, value in words.items()])


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def outputs(folder) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def counts(folder) -> dict:
    """funnel.json without times and paths."""
    found = json.loads((folder / "funnel.json").read_text())
    del found["seconds"], found["cpu_seconds"], found["config"]
    return found | {"stages": [{k: v for k, v in row.items() if k not in ("cpu_seconds", "records_per_second")}
                               for row in found["stages"]]}
