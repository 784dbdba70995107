"""Writes tests/golden/*.json: logits, losses and gradients of the tiny reference models, computed with torch.

    pip install -e ".[parity]" && python scripts/make_golden.py [CASE ...]

All cases by default; those of another version of torch differ in the last digits, so name the new ones.
tests/models/test_golden.py compares jitune with them where torch is not installed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.references import (  # noqa: E402
    CONFIGS,
    GOLDEN_POSITIONS,
    GOLDEN_SEGMENTS,
    documents,
    gradients,
    make_tokens,
    make_weights,
    write_checkpoint,
)  # fmt: skip


def compute(case: str) -> dict:
    """The golden values of one config. Every document runs alone: packing and padding must not be seen."""
    raw, weights = CONFIGS[case], make_weights(CONFIGS[case])
    tokens = make_tokens(raw, *GOLDEN_SEGMENTS.shape)
    with tempfile.TemporaryDirectory() as directory:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            write_checkpoint(Path(directory), raw, weights), dtype=torch.float32, attn_implementation="eager"
        )
    logits, losses = np.zeros((*tokens.shape, raw["vocab_size"]), np.float32), []
    for row, place in documents(GOLDEN_SEGMENTS):
        ids = torch.tensor(tokens[row, place][None], dtype=torch.long)
        out = model(ids, use_cache=False).logits[0]
        losses.append(torch.nn.functional.cross_entropy(out[:-1], ids[0, 1:], reduction="none"))
        logits[row, place] = out.detach().numpy()
    loss = torch.cat(losses).mean()
    loss.backward()
    return {
        "made_with": f"torch {torch.__version__.partition('+')[0]}, transformers {transformers.__version__}",
        "weights": digits(sum(np.abs(x, dtype=np.float64).sum() for x in weights.values())),
        "loss": digits(loss.item(), 9),  # all of a float32: its bound is of the size of the seventh
        "logits": [[digits(x) for x in logits[position]] for position in GOLDEN_POSITIONS],
        "gradients": {name: summary(grad.ravel()) for name, grad in gradients(model).items()},
    }


def summary(gradient: np.ndarray) -> dict:
    """The norm, and the values at three places: the largest, one of the middle, a small one."""
    order = np.argsort(-np.abs(gradient))
    places = (int(order[int(part * (len(order) - 1))]) for part in (0, 0.4, 0.8))
    norm = np.linalg.norm(gradient.astype(np.float64))
    return {"norm": digits(norm), "entries": [[i, digits(gradient[i])] for i in places]}


def digits(value, count: int = 7) -> float:
    """Significant digits: seven are as many as float32 has for sure."""
    return float(f"{float(value):.{count}g}")


def main() -> None:
    torch.set_num_threads(1)
    for case in sys.argv[1:] or CONFIGS:
        text = json.dumps(compute(case), separators=(",", ":")).replace('],"', '],\n"').replace('},"', '},\n"')
        (ROOT / "tests" / "golden" / f"{case}.json").write_text(text + "\n")
        print(f"{case}: {len(text):,} bytes")


if __name__ == "__main__":
    main()
