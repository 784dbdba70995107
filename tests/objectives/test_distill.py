"""The objective: its slow twin, what is never computed or held, meshes, stores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jitune import sharding
from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.objectives.distill import distill
from jitune.objectives.divergence import dense
from jitune.objectives.sft import sft
from jitune.planning.count import count_products
from jitune.step import make_train_step
from jitune.transforms.full import full
from jitune.types import Beside, TrainState, UserError
from tests.test_step import ROWS, SEQ, VOCAB, arrays, make_batch, make_model

pytestmark = pytest.mark.core
CHUNK = 32


def build_teacher(vocab):
    """A Llama that is wider than the student, a Qwen3, and has one layer more."""
    raw = {"model_type": "llama", **FAMILIES["llama"].presets["tiny"], "vocab_size": vocab, "hidden_size": 96,
           "num_hidden_layers": 3, "tie_word_embeddings": False}  # fmt: skip
    return decoder.build(ModelConfig.from_hf(raw))


@functools.cache
def make_teacher():
    """(the teacher, its parameters)"""
    model = build_teacher(VOCAB)
    params = jax.jit(model.init)(jax.random.key(7))
    return model, jax.tree.map(lambda x: 2 * x, params)  # surer of itself than at the start


def logits_of(model, params, batch):
    return model.unembed(params, model.hidden(params, batch)[0])


@functools.cache
def all_logits():
    """(teacher's, student's, what takes a gradient of the student's logits to its parameters) of the one batch."""
    (model, params), (teacher, other) = make_model(), make_teacher()
    theirs = jax.jit(lambda p, batch: logits_of(teacher, p, batch))(other, make_batch())
    ours, back = jax.jit(lambda p, batch: jax.vjp(lambda p: logits_of(model, p, batch), p))(params, make_batch())
    return theirs, ours, jax.jit(lambda back, gradient: back(gradient)[0]), back


def plain_loss(batch, *, kind="forward", sft_weight=0.0, **options):
    """The slow twin, with its gradient: all logits of both at once."""
    theirs, ours, pull, back = all_logits()

    def loss(student):
        parts = dense(kind, theirs, student, **options)
        nll = -jnp.take_along_axis(jax.nn.log_softmax(student), batch["targets"][..., None], -1)[..., 0]
        return (((1 - sft_weight) * parts + sft_weight * nll) * batch["loss_weights"]).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(ours)
    return value, pull(back, gradient)


def loss_of(objective, params, batch, other=None):
    model = full().apply(make_model()[0])
    frozen = {} if other is None else Beside({}, other)
    return objective(model, (frozen, params), batch, None)


def assert_graded(found, wanted):
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


# Batches are arguments of what is compiled: XLA takes long to fold what it can of constants.
@pytest.mark.parametrize("kind, beta, temperature, sft_weight, chunk", [
    ("forward", 0.5, 1.0, 0.0, 24), ("reverse", 0.5, 2.0, 0.3, 1000), ("jsd", 0.3, 1.5, 0.0, 56),
])  # fmt: skip
def test_the_chunked_loss_is_the_plain_one(kind, beta, temperature, sft_weight, chunk):
    (_, params), (teacher, other), batch = make_model(), make_teacher(), make_batch()
    objective = distill(divergence=kind, jsd_beta=beta, temperature=temperature, sft_weight=sft_weight, chunk=chunk,
                        teacher=teacher)  # fmt: skip
    found = jax.jit(jax.value_and_grad(lambda *given: loss_of(objective, *given)[0]))(params, batch, other)
    assert_graded(found, plain_loss(batch, kind=kind, beta=beta, temperature=temperature, sft_weight=sft_weight))


def test_sums_and_metrics():
    (_, params), (teacher, other), batch = make_model(), make_teacher(), make_batch()
    pure, mix = (distill(teacher=teacher, chunk=64, sft_weight=share) for share in (0.0, 0.25))
    run = jax.jit(lambda p, b, o: (loss_of(pure, p, b, o), loss_of(mix, p, b, o), loss_of(sft(chunk=64), p, b)))
    (total, weight, metrics), (mixed, _, parts), (supervised, _, plain) = run(params, batch, other)
    assert weight == batch["loss_weights"].sum() and set(metrics) == {"accuracy"}
    np.testing.assert_allclose([parts["divergence"], parts["nll"]], [total, supervised], rtol=1e-6)
    np.testing.assert_allclose(mixed, 0.75 * total + 0.25 * supervised, rtol=1e-6)
    assert metrics["accuracy"] == parts["accuracy"] == plain["accuracy"]


def step_of(objective, beside, **options):
    """(a train step, its arguments)"""
    model, params = make_model()
    optimizer = optax.adamw(1e-2)
    step = make_train_step(full().apply(model), objective, optimizer, **options)
    return step, (TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params)), beside, make_batch(),
                  jax.random.key(0))  # fmt: skip


@pytest.mark.parametrize("microbatches", [1, 2])
def test_the_teacher_is_run_forward_once_and_logits_of_a_whole_batch_never_exist(microbatches):
    teacher, other = make_teacher()
    options = {"microbatches": microbatches}
    both = jax.make_jaxpr(step_of(distill(teacher=teacher, chunk=64), None, **options)[0])(
        *step_of(None, Beside({}, other))[1])  # fmt: skip
    alone = jax.make_jaxpr(step_of(sft(chunk=64), None, **options)[0])(*step_of(None, {})[1])
    part = {k: v[: ROWS // microbatches] for k, v in make_batch().items()}
    forward = jax.make_jaxpr(lambda p: logits_of(teacher, p, part))(other)
    assert count_products(both) == count_products(alone) + microbatches * count_products(forward)
    shapes = [s for s in arrays(both.jaxpr) if len(s) > 2 and s[-1] == VOCAB]
    assert max(map(np.prod, shapes)) == 64 // 2 * VOCAB  # of each of the two models


@functools.cache
def run_steps(*shape):
    """(losses of a few steps on a mesh, the compiled step); the teacher lies there too, and no optimizer knows it."""
    teacher, other = make_teacher()
    mesh = sharding.make_mesh(*shape, devices=jax.devices()[: np.prod(shape)])
    model, params = make_model()
    with jax.set_mesh(mesh):
        homes = sharding.shardings(params, mesh)
        params = jax.device_put(params, homes)
        beside = Beside({}, jax.device_put(other, sharding.shardings(other, mesh)))
        optimizer = optax.adamw(1e-2)
        objective = distill(divergence="jsd", teacher=teacher, chunk=CHUNK)
        step = jax.jit(make_train_step(full().apply(model), objective, optimizer, shardings=homes))
        state, rows = TrainState(jnp.zeros((), jnp.int32), params, jax.jit(optimizer.init)(params)), []
        batch = sharding.put_batch(make_batch(), mesh, ROWS)
        compiled = step.lower(state, beside, batch, jax.random.key(0)).compile()
        for _ in range(3):
            state, metrics = step(state, beside, batch, jax.random.key(0))
            rows.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.array(rows), compiled.as_text()


def test_a_mesh_gives_one_devices_losses():
    found, wanted = run_steps(2, 2, 2)[0], run_steps(1, 1, 1)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert wanted[-1, 0] < wanted[0, 0]


def test_the_compiled_step_holds_no_logits_of_a_whole_batch():
    text, rows, width = run_steps(1, 1, 1)[1], ROWS, CHUNK // 2 // ROWS
    assert f"f32[{rows},{width},{VOCAB}]" in text
    assert f"f32[{rows},{SEQ},{VOCAB}]" not in text and f"f32[{rows * SEQ},{VOCAB}]" not in text
    assert f"f32[{SEQ // width},{rows},{width},{VOCAB}]" not in text


def stored(batch, k):
    """The batch with the teacher's k likeliest tokens, in the types of a store."""
    values, ids = jax.lax.top_k(jax.nn.log_softmax(all_logits()[0]), k)
    return {**batch, "teacher_ids": np.asarray(ids, np.uint16), "teacher_logprobs": np.asarray(values)}


def test_a_store_of_all_tokens_is_the_teacher():
    (_, params), batch = make_model(), make_batch()
    whole, few = stored(batch, VOCAB), stored(batch, 8)
    objective, wanted = distill(divergence="jsd", chunk=64), plain_loss(batch, kind="jsd")

    def loss(params, batch):
        return loss_of(objective, params, batch)[0]

    run = jax.jit(lambda p, whole, few: (jax.value_and_grad(loss)(p, whole), loss(p, few)))
    found, some = run(params, whole, few)
    assert_graded(found, wanted)
    assert 0 < some < wanted[0]


def test_padded_vocabularies_are_compared_where_both_have_tokens():
    """Logits beyond the tokenizer's tokens change nothing, and get no gradient."""
    (_, params), (_, other), batch = make_model(), make_teacher(), make_batch()
    long, more = build_teacher(VOCAB + 8), np.random.default_rng(1).standard_normal((8, 96), np.float32)
    padded = {**other, "lm_head": {"kernel": jnp.concatenate([other["lm_head"]["kernel"], more.T], axis=1)},
              "embed": {"embedding": jnp.concatenate([other["embed"]["embedding"], more])}}  # fmt: skip
    found = jax.jit(lambda *given: loss_of(distill(teacher=long, vocab=VOCAB), *given)[0])(params, batch, padded)
    np.testing.assert_allclose(found, plain_loss(batch)[0], rtol=1e-6)
    with pytest.raises(UserError, match="logits of 120 tokens, the student of 112"):
        jax.eval_shape(lambda: loss_of(distill(teacher=long), params, batch, padded))


def test_noise_and_keys_of_the_student_do_not_reach_the_teacher():
    (model, params), (teacher, other) = make_model(), make_teacher()
    seen = {}

    def hidden(params, batch, cache=None):
        seen.update(batch)
        return teacher.hidden(params, batch)

    batch = make_batch()
    objective = distill(teacher=teacher._replace(hidden=hidden))

    def run(params, other, batch):
        batch = {**batch, "embeddings": model.embed(params, batch["tokens"])}
        return objective(full().apply(model), (Beside({}, other), params), batch, jax.random.key(0))

    jax.eval_shape(run, params, other, batch)
    assert "tokens" in seen and not {"embeddings", "key"} & set(seen)


def test_missing_teachers_are_errors():
    (_, params), (teacher, _) = make_model(), make_teacher()
    with pytest.raises(UserError, match="has no teacher_ids, and there is no teacher"):
        loss_of(distill(), params, make_batch())
    with pytest.raises(UserError, match="Beside"):
        loss_of(distill(teacher=teacher), params, make_batch())
