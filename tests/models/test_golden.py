"""The decoder against values that transformers computed once (scripts/make_golden.py); needs no torch."""

import json
from pathlib import Path

import numpy as np
import pytest

import jitune
from tests.references import (
    ATOL,
    CONFIGS,
    GOLDEN_POSITIONS,
    GOLDEN_SEGMENTS,
    GRADIENT,
    LOSS,
    RTOL,
    evaluate,
    make_tokens,
    make_weights,
    plain_batch,
    write_checkpoint,
)  # fmt: skip

GOLDEN = Path(__file__).parents[1] / "golden"
pytestmark = pytest.mark.core


@pytest.mark.parametrize("case", CONFIGS)
def test_golden(case, tmp_path):
    golden = json.loads((GOLDEN / f"{case}.json").read_text())
    raw, weights = CONFIGS[case], make_weights(CONFIGS[case])
    drawn = sum(np.abs(x, dtype=np.float64).sum() for x in weights.values())
    assert drawn == pytest.approx(golden["weights"], rel=1e-6), "numpy draws other weights than the golden ones"
    loaded = jitune.load(write_checkpoint(tmp_path, raw, weights), dtype="float32")
    tokens = make_tokens(raw, *GOLDEN_SEGMENTS.shape)
    logits, loss, gradients = evaluate(
        loaded.model, loaded.params, plain_batch(tokens, GOLDEN_SEGMENTS), loaded.config
    )
    for position, wanted in zip(GOLDEN_POSITIONS, golden["logits"], strict=True):
        np.testing.assert_allclose(logits[position], wanted, RTOL, ATOL, err_msg=f"row, token {position}")
    assert abs(loss - golden["loss"]) < LOSS
    assert gradients.keys() == golden["gradients"].keys()
    for name, wanted in golden["gradients"].items():
        found = gradients[name].ravel()
        assert np.linalg.norm(found) == pytest.approx(wanted["norm"], rel=GRADIENT), name
        places, values = zip(*wanted["entries"], strict=True)
        typical = wanted["norm"] / found.size**0.5
        np.testing.assert_allclose(found[list(places)], values, GRADIENT, GRADIENT * typical, err_msg=name)
