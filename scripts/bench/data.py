"""How long data preparation takes: python scripts/bench/data.py [--rows messages] [--examples 2000] [--repeat 5]

Instructions are made of the docstrings of the standard library, a tokenizer of 8,192 tokens is trained on them, and
then timed: `prepare` (reading, rendering, masks, tokenizing, cutting) and one epoch of packed batches. Prints one line
of JSON: medians in seconds, tokens, tokens a second, rows, and the share of them that is not padding.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sysconfig
import tempfile
import time
from functools import partial
from pathlib import Path

from jitune.config import defaults
from jitune.data import pipeline
from jitune.hub.fresh import train_tokenizer


def documented(count: int) -> list[tuple[str, str]]:
    """The first `count` (question, docstring) pairs of the standard library, over again where it has fewer."""
    pairs = []
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(p for p in root.rglob("*.py") if not {"site-packages", "test", "tests"} & set(p.parts)):
        try:
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        for node in nodes:
            text = ast.get_docstring(node) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else None
            if text and len(text) > 60:
                pairs.append((f"What is `{node.name}` in {path.stem}.py for? ", text))
    return [pairs[i * 7919 % len(pairs)] for i in range(count)]  # 7,919 is prime: modules come in turn


def as_row(kind: str, question: str, answer: str) -> dict:
    if kind == "text":
        return {"prompt": question, "completion": answer}
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def timed(function):
    start = time.perf_counter()
    value = function()
    return value, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", choices=("text", "messages"), default="text")
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=5)
    a = parser.parse_args()
    pairs = documented(a.examples)
    tokenizer = train_tokenizer((text for pair in pairs for text in pair), 8192)
    config = defaults().data
    preparing, packing = [], []
    with tempfile.TemporaryDirectory() as folder:
        config.train = str(Path(folder) / "rows.jsonl")
        Path(config.train).write_text("".join(json.dumps(as_row(a.rows, *pair)) + "\n" for pair in pairs))
        for _ in range(a.repeat):
            prepared, seconds = timed(lambda: pipeline.prepare(config, tokenizer, a.seq_len))
            preparing.append(seconds)
            stream = pipeline.batches(prepared, seq_len=a.seq_len, batch_size=a.batch_size, epochs=1)
            batches, seconds = timed(partial(list, stream))
            packing.append(seconds)
    rows = sum(int(batch["segment_ids"].any(axis=1).sum()) for batch in batches)
    tokens = sum(int((batch["segment_ids"] > 0).sum()) for batch in batches)
    both = statistics.median(x + y for x, y in zip(preparing, packing, strict=True))
    print(json.dumps({
        "rows_of": a.rows, "prepare_s": round(statistics.median(preparing), 3),
        "first_prepare_s": round(preparing[0], 3),
        "packing_s": round(statistics.median(packing), 3), "both_s": round(both, 3), "tokens": prepared.stats.tokens,
        "tokens_per_second": round(prepared.stats.tokens / both), "rows": rows,
        "fill": round(tokens / (rows * a.seq_len), 4),
    }))


if __name__ == "__main__":
    main()
