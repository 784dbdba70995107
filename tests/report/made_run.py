"""The files of a run that never ran: every column and every file that a report reads, with numbers of our own."""

import json
import math
from pathlib import Path

from jitune.config import defaults, to_json

HOSTILE = '<script>alert("1")</script> & <b>'


def make_run(directory: Path, *, steps: int = 30, finished: bool = True) -> Path:
    """Fills `directory`; step 7 has a loss that is not finite."""
    directory.mkdir(parents=True, exist_ok=True)
    config = defaults()
    config.model.path, config.data.train, config.data.eval = "models/tiny", "data/toy.jsonl,data/b.jsonl", "e.jsonl"
    config.output_dir, config.run_name, config.batch_size, config.steps = str(directory), HOSTILE, 8, steps
    (directory / "config.json").write_text(to_json(config))
    write_lines(directory / "metrics.jsonl", [row(step) for step in range(1, steps + 1)])
    write_lines(directory / "samples.jsonl", [
        {"step": step, **prompt, "text": f"{HOSTILE} {step}", "finish_reason": "length" if step < 6 else "stop"}
        for step in range(1, steps + 1, max(1, steps // 6))
        for prompt in ({"prompt": "Name the colour."}, {"messages": [{"role": "user", "content": HOSTILE}]})
    ])
    (directory / "data.json").write_text(json.dumps({"train": data(), "eval": data()}))
    (directory / "startup.json").write_text(json.dumps(startup()))
    if finished:
        (directory / "final").mkdir()
        (directory / "final" / "config.json").write_text("{}")
    return directory


def row(step: int) -> dict:
    """A line of metrics.jsonl."""
    found = {
        "step": step, "loss": None if step == 7 else 1 / 3 + 3 * math.exp(-step / 10), "learning_rate": 2e-5 / step,
        "tokens_per_second": 12345.678 + step % 5, "step_seconds": 0.1 + step / 1000, "supervised_share": 1 / 3,
        "grad_norm": 10 ** math.sin(step), "param_norm": 31.4, "tokens": 512.0, "supervised": 171.0,
        "weight_sum": 171.0, "accuracy": step / 1e4, "pairs": 1e4, "mfu": 0.4321, "memory_bytes": 3 * 2**29,
    }
    return found | ({"eval_loss": 0.5 + 1 / step} if step % 10 == 0 else {})


def data() -> dict:
    """Half of data.json."""
    return {
        "examples": 200, "tokens": 9100, "supervised_tokens": 3100, "dropped_examples": 0, "dropped_tokens": 0,
        "truncated_examples": 3, "truncated_tokens": 120, "split_examples": 0, "notes": {HOSTILE: 4},
        "documents": 200, "supervised_share": 31 / 91, "seq_len": 2048, "rows": 61, "fill": 0.974,
        "lengths": {"edges": [0, 16384, 32768, 65536], "counts": [120, 4, 0], "min": 9, "median": 40, "max": 20000},
        "sources": [{"source": "/a/very/long/path/" * 6 + "data.jsonl", "documents": 200, "tokens": 9100}],
    }


def startup() -> dict:
    """startup.json."""
    return {
        "step": 1, "seconds": {"import": 2.1, "data": 0.4, "weights": 0.3, "compile": 6.2, "step": 0.8, "other": 0.1},
        "total_seconds": 9.9, "step_from_cache": False, "device": "NVIDIA H100 80GB HBM3", "platform": "gpu",
        "devices": 8, "processes": 1, "peak_flops": 7.916e15, "peak_source": "data sheet", "memory": "peak",
        "parameters": 494032768, "trained_parameters": 494032768, "versions": {"jitune": "0.1.0", "jax": "0.10.2"},
    }


def write_lines(path: Path, rows: list[dict]) -> None:
    """A .jsonl file."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
