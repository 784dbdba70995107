"""The loss and the train step: exact under chunking, accumulation and any mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jitune import flops, sharding
from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.objectives.sft import add_noise, sft
from jitune.step import count_tokens, cut, make_eval_step, make_train_step, sum_batches
from jitune.transforms.full import full
from jitune.types import TrainState

pytestmark = pytest.mark.core
ROWS, SEQ, VOCAB = 8, 32, 112
SHAPES = [(1, 1, 8), (1, 8, 1), (8, 1, 1), (2, 2, 2), (1, 2, 4), (1, 4, 2), (4, 2, 1)]
# Rows and their tokens, and heads, are split: fsdp, tensor, expert, context.
SPLIT = [(1, 1, 1, 8), (2, 2, 1, 2), (1, 1, 2, 4)]


@functools.cache
def make_model():
    raw = {"model_type": "qwen3", **FAMILIES["qwen3"].presets["tiny"], "vocab_size": VOCAB, "num_key_value_heads": 2}
    config = ModelConfig.from_hf(raw)
    model = decoder.build(config)
    return model, jax.jit(model.init)(jax.random.key(0))


def make_batch(seed=0):
    """Rows whose trained tokens differ greatly in number: row i trains about i of them."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCAB, (ROWS, SEQ)).astype(np.int32)
    segments = np.ones((ROWS, SEQ), np.int32)
    for i in range(ROWS):
        segments[i, 12:] = 2
        segments[i, SEQ - i :] = 0
    inside = np.zeros((ROWS, SEQ), bool)
    inside[:, :-1] = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    weights = inside & (np.arange(SEQ) >= SEQ - 6 - 3 * np.arange(ROWS)[:, None])
    return {
        "tokens": tokens,
        "targets": np.where(inside, np.roll(tokens, -1, 1), 0).astype(np.int32),
        "loss_weights": weights.astype(np.float32),
        "segment_ids": segments,
        "positions": np.asarray(decoder.restart_positions(jnp.asarray(segments))).astype(np.int32),
    }


def plain_loss(model, params, batch):
    """The slow twin: all logits at once."""
    logits = model.unembed(params, model.hidden(params, batch)[0])
    log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["targets"][..., None], axis=-1)[..., 0]
    return -(log_probs * batch["loss_weights"]).sum() / batch["loss_weights"].sum()


@functools.cache
def plain_grads():
    (model, params), batch = make_model(), make_batch()
    return jax.jit(jax.value_and_grad(lambda p: plain_loss(model, p, batch)))(params)


@pytest.mark.parametrize("chunk", [1, 24, 56, 100, 1000])
def test_chunked_loss_is_the_plain_loss(chunk):
    model, params = make_model()
    batch = make_batch()
    objective = sft(chunk=chunk)

    def mean(params):
        total, weight, _ = objective(model, params, batch, None)
        return total / weight

    value, grads = jax.jit(jax.value_and_grad(mean))(params)
    expected, expected_grads = plain_grads()
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def arrays(jaxpr):
    """Every intermediate shape of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            yield tuple(getattr(variable.aval, "shape", ()))
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from arrays(inner)


def test_logits_of_a_whole_batch_never_exist():
    model, params = make_model()
    batch = make_batch()

    def grads(chunk):
        objective = sft(chunk=chunk)
        return jax.make_jaxpr(jax.grad(lambda p: objective(model, p, batch, None)[0]))(params)

    def largest(jaxpr):
        return max(np.prod(s) for s in arrays(jaxpr.jaxpr) if s and s[-1] == VOCAB and len(s) > 2)

    assert largest(grads(1000)) == ROWS * SEQ * VOCAB
    assert largest(grads(64)) == 64 * VOCAB


def run_steps(microbatches=1, mesh=None, count=3):
    """Losses and gradient norms of a few AdamW steps."""
    model, params = make_model()
    mesh = mesh or sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        homes = sharding.shardings(params, mesh)
        params = jax.device_put(params, homes)
        optimizer = optax.adamw(1e-2)
        step = jax.jit(make_train_step(full().apply(model), sft(chunk=64), optimizer, microbatches, shardings=homes))
        state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
        rows = []
        for i in range(count):
            state, metrics = step(state, {}, sharding.put_batch(make_batch(i), mesh, ROWS), jax.random.key(0))
            rows.append([float(metrics["loss"]), float(metrics["grad_norm"]), float(metrics["supervised"])])
    return np.array(rows)


@functools.cache
def reference():
    return run_steps()


@pytest.mark.parametrize("microbatches", [2, 8])
def test_accumulation_is_exact_with_unequal_lengths(microbatches):
    np.testing.assert_allclose(run_steps(microbatches), reference(), rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_mesh_gives_one_devices_losses(shape):
    np.testing.assert_allclose(run_steps(mesh=sharding.make_mesh(*shape)), reference(), rtol=1e-5)


@pytest.mark.parametrize(("fsdp", "tensor", "expert", "context"), SPLIT)
def test_a_split_sequence_gives_one_devices_losses(fsdp, tensor, expert, context):
    mesh = sharding.make_mesh(1, fsdp, tensor, expert=expert, context=context)
    np.testing.assert_allclose(run_steps(mesh=mesh), reference(), rtol=1e-5)


@pytest.mark.parametrize("mesh", [{"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 2, "context": 4}])
def test_accumulation_on_a_mesh(mesh):
    np.testing.assert_allclose(run_steps(2, sharding.make_mesh(**mesh)), reference(), rtol=1e-5)


def test_metrics_and_evaluation():
    model, params = make_model()
    batch = make_batch()
    sums = make_eval_step(full().apply(model), sft())({}, params, batch)
    assert float(sums["weight"]) == batch["loss_weights"].sum()
    assert reference()[0, 2] == batch["loss_weights"].sum()
    np.testing.assert_allclose(sums["loss"] / sums["weight"], reference()[0, 0], rtol=1e-5)
    logits = model.unembed(params, model.hidden(params, batch)[0])
    right = ((np.asarray(logits).argmax(-1) == batch["targets"]) * batch["loss_weights"]).sum()
    assert float(sums["accuracy"]) == right


@pytest.mark.parametrize("windows", [(0, 0), (3, 3), (0, 5, 5, 1)])
def test_pairs_are_counted_in_every_layer(windows):
    batch = make_batch()
    lengths = [np.sum(row == s) for row in batch["segment_ids"] for s in np.unique(row[row > 0])]
    expected = sum(flops.count_pairs(lengths, window) for window in windows)
    assert float(jax.jit(lambda b: count_tokens(b, windows))(batch)["pairs"]) == expected
    assert "pairs" not in count_tokens(batch)


def test_cut_keeps_every_row():
    parts = cut({"x": jnp.arange(12).reshape(6, 2)}, 3)["x"]
    np.testing.assert_array_equal(parts[1], [[2, 3], [8, 9]])


def test_neftune_noise_has_the_published_size():
    embeddings = jnp.zeros((2, 64, 16))
    segments = jnp.array([[1] * 16 + [2] * 40 + [0] * 8, [1] * 64])
    noise = add_noise(embeddings, segments, 5.0, jax.random.key(0))
    for row, places, length in ((0, slice(0, 16), 16), (0, slice(16, 56), 40), (1, slice(0, 64), 64)):
        bound = 5.0 / np.sqrt(length * 16)
        part = np.abs(noise[row, places])
        assert part.max() <= bound and part.max() > 0.95 * bound
    assert np.abs(noise[0, 56:]).max() == 0
    model, params = make_model()
    quiet, noisy = sft(), sft(neftune_alpha=5.0)
    batch = make_batch()
    assert noisy(model, params, batch, None)[0] == quiet(model, params, batch, None)[0]
    assert noisy(model, params, batch, jax.random.key(1))[0] != quiet(model, params, batch, None)[0]


def test_evaluation_is_at_most_one_batch_ahead_of_the_devices():
    """More would pile up on the devices, and from 32 computations on the CPU client can deadlock."""
    flying = []

    class Sums:
        def __init__(self, total):
            self.total = total
            flying.append(self)

        def block_until_ready(self):
            flying.remove(self)
            return self

    def step(batch, sums):
        assert len(flying) <= 1
        return Sums(batch + (sums.total if sums else 0))

    assert sum_batches(step, range(100)).total == 4950
    assert len(flying) == 1
    assert sum_batches(step, []) is None
