"""Whole models with their rows, heads and sequences split give what one device gives: logits, loss, gradients."""

import jax
import numpy as np
import pytest

import jitune
from jitune.sharding import make_mesh, shardings
from tests import references
from tests.references import CONFIGS

CASES = ("gemma2", "qwen3_moe")  # windows in some layers and soft caps; experts, and norms of heads


def packed(raw):
    """Rows of documents of which some lie on several devices, and padding; 32 tokens, 16 on a device."""
    segments = np.ones((4, 32), np.int32)
    segments[0, 10:], segments[1, 27:], segments[2, 5:], segments[2, 20:] = 2, 0, 2, 3
    return references.plain_batch(references.make_tokens(raw, rows=4, length=32), segments)


@pytest.mark.parametrize("case", CASES)
def test_split_sequences_give_one_devices_gradients(case, tmp_path):
    raw = CONFIGS[case]
    opened = jitune.load(references.write_checkpoint(tmp_path, raw, references.make_weights(raw)), dtype="float32")
    batch = packed(raw)
    logits, loss, gradients = references.evaluate(opened.model, opened.params, batch, opened.config)
    mesh = make_mesh(fsdp=2, context=2, tensor=2)
    with jax.set_mesh(mesh):
        params = jax.device_put(opened.params, shardings(opened.params, mesh))
        found, same_loss, others = references.evaluate(opened.model, params, batch, opened.config)
    real = batch["segment_ids"] > 0
    np.testing.assert_allclose(found[real], logits[real], atol=references.ATOL, rtol=references.RTOL)
    assert same_loss == pytest.approx(loss, abs=references.LOSS)
    for name, wanted in gradients.items():
        assert references.relative(others[name], wanted) < references.GRADIENT, name
