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


@functools.cache
def make_teacher(vocab=VOCAB):
    """A Llama that is wider than the student, a Qwen3, and has one layer more."""
    raw = {"model_type": "llama", **FAMILIES["llama"].presets["tiny"], "vocab_size": vocab, "hidden_size": 96,
           "num_hidden_layers": 3, "tie_word_embeddings": False}  # fmt: skip
    model = decoder.build(ModelConfig.from_hf(raw))
    params = model.init(jax.random.key(7))
    return model, jax.tree.map(lambda x: 2 * x, params)  # surer of itself than at the start


def logits_of(model, params, batch):
    return model.unembed(params, model.hidden(params, batch)[0])


def plain_loss(params, batch, *, kind, sft_weight, **options):
    """The slow twin: all logits of both at once."""
    model, (teacher, other) = make_model()[0], make_teacher()
    student = logits_of(model, params, batch)
    parts = dense(kind, logits_of(teacher, other, batch), student, **options)
    nll = -jnp.take_along_axis(jax.nn.log_softmax(student), batch["targets"][..., None], -1)[..., 0]
    return (((1 - sft_weight) * parts + sft_weight * nll) * batch["loss_weights"]).sum()


def loss_of(objective, params, batch, other=None):
    model = full().apply(make_model()[0])
    frozen = {} if other is None else Beside({}, other)
    return objective(model, (frozen, params), batch, None)


@pytest.mark.parametrize("kind, beta, temperature, sft_weight, chunk", [
    ("forward", 0.5, 1.0, 0.0, 24), ("reverse", 0.5, 2.0, 0.3, 1000), ("jsd", 0.3, 1.5, 0.0, 56),
])  # fmt: skip
def test_the_chunked_loss_is_the_plain_one(kind, beta, temperature, sft_weight, chunk):
    (_, params), (teacher, other), batch = make_model(), make_teacher(), make_batch()
    objective = distill(divergence=kind, jsd_beta=beta, temperature=temperature, sft_weight=sft_weight, chunk=chunk,
                        teacher=teacher)  # fmt: skip
    found = jax.jit(jax.value_and_grad(lambda p: loss_of(objective, p, batch, other)[0]))(params)
    wanted = jax.jit(jax.value_and_grad(lambda p: plain_loss(
        p, batch, kind=kind, beta=beta, temperature=temperature, sft_weight=sft_weight)))(params)  # fmt: skip
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_sums_and_metrics():
    (_, params), (teacher, other), batch = make_model(), make_teacher(), make_batch()
    def run(objective, other=None):
        return jax.jit(lambda: loss_of(objective, params, batch, other))()

    total, weight, metrics = run(distill(teacher=teacher, chunk=64), other)
    assert weight == batch["loss_weights"].sum() and set(metrics) == {"accuracy"}
    mixed, _, parts = run(distill(teacher=teacher, chunk=64, sft_weight=0.25), other)
    supervised, _, plain = run(sft(chunk=64))
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
    assert max(map(np.prod, shapes)) == 64 * VOCAB


def test_the_compiled_step_holds_no_logits_of_a_whole_batch():
    teacher, other = make_teacher()
    step, arguments = step_of(distill(teacher=teacher, chunk=32), Beside({}, other))
    text = jax.jit(step).lower(*arguments).compile().as_text()
    rows, width = ROWS, 32 // ROWS
    assert f"f32[{rows},{width},{VOCAB}]" in text
    assert f"f32[{rows},{SEQ},{VOCAB}]" not in text and f"f32[{rows * SEQ},{VOCAB}]" not in text
    assert f"f32[{SEQ // width},{rows},{width},{VOCAB}]" not in text


def run_steps(mesh=None):
    """Losses of a few steps; the teacher lies on the same mesh, and no optimizer knows it."""
    teacher, other = make_teacher()
    mesh = mesh or sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    model, params = make_model()
    with jax.set_mesh(mesh):
        homes = sharding.shardings(params, mesh)
        params = jax.device_put(params, homes)
        beside = Beside({}, jax.device_put(other, sharding.shardings(other, mesh)))
        optimizer = optax.adamw(1e-2)
        objective = distill(divergence="jsd", teacher=teacher, chunk=64)
        step = jax.jit(make_train_step(full().apply(model), objective, optimizer, shardings=homes))
        state, rows = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params)), []
        batch = sharding.put_batch(make_batch(), mesh, ROWS)
        for _ in range(3):
            state, metrics = step(state, beside, batch, jax.random.key(0))
            rows.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.array(rows)


def test_a_mesh_gives_one_devices_losses():
    found, wanted = run_steps(sharding.make_mesh(2, 2, 2)), run_steps()
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert wanted[-1, 0] < wanted[0, 0]


def graded(function):
    return jax.jit(jax.value_and_grad(function))


def stored(batch, k):
    """The batch with the teacher's k likeliest tokens, in the types of a store."""
    teacher, other = make_teacher()
    logits = jax.jit(lambda p: logits_of(teacher, p, batch))(other)
    values, ids = jax.lax.top_k(jax.nn.log_softmax(logits), k)
    return {**batch, "teacher_ids": np.asarray(ids, np.uint16), "teacher_logprobs": np.asarray(values)}


def test_a_store_of_all_tokens_is_the_teacher():
    (_, params), (teacher, other), batch = make_model(), make_teacher(), make_batch()
    options = {"divergence": "jsd", "chunk": 64}
    whole = stored(batch, VOCAB)
    # Batches are arguments: XLA takes long to fold what it can of constants.
    wanted = graded(lambda p, b: loss_of(distill(**options, teacher=teacher), p, b, other)[0])(params, batch)
    found = graded(lambda p, b: loss_of(distill(**options), p, b)[0])(params, whole)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    few = {**whole, **{name: whole[name][..., :8] for name in ("teacher_ids", "teacher_logprobs")}}
    some = jax.jit(lambda p, b: loss_of(distill(**options), p, b)[0])(params, few)
    assert 0 < some < wanted[0]


def test_padded_vocabularies_are_compared_where_both_have_tokens():
    """Logits beyond the tokenizer's tokens change nothing, and get no gradient."""
    (_, params), batch = make_model(), make_batch()
    short, other = make_teacher()
    long, padded = make_teacher(VOCAB + 8)
    kernel = jax.random.normal(jax.random.key(1), padded["lm_head"]["kernel"].shape)
    kernel = kernel.at[:, :VOCAB].set(other["lm_head"]["kernel"])
    embedding = jnp.zeros_like(padded["embed"]["embedding"]).at[:VOCAB].set(other["embed"]["embedding"])
    padded = {**other, "embed": {"embedding": embedding}, "lm_head": {"kernel": kernel}}
    wanted = jax.jit(lambda: loss_of(distill(teacher=short), params, batch, other)[0])()
    found = jax.jit(lambda: loss_of(distill(teacher=long, vocab=VOCAB), params, batch, padded)[0])()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    with pytest.raises(UserError, match="logits of 120 tokens, the student of 112"):
        loss_of(distill(teacher=long), params, batch, padded)


def test_noise_and_keys_of_the_student_do_not_reach_the_teacher():
    (model, params), (teacher, other) = make_model(), make_teacher()
    seen = {}

    def hidden(params, batch, cache=None):
        seen.update(batch)
        return teacher.hidden(params, batch)

    batch = {**make_batch(), "embeddings": model.embed(params, make_batch()["tokens"])}
    objective = distill(teacher=teacher._replace(hidden=hidden))
    objective(full().apply(model), (Beside({}, other), params), batch, jax.random.key(0))
    assert "tokens" in seen and not {"embeddings", "key"} & set(seen)


def test_missing_teachers_are_errors():
    (_, params), (teacher, _) = make_model(), make_teacher()
    with pytest.raises(UserError, match="has no teacher_ids, and there is no teacher"):
        loss_of(distill(), params, make_batch())
    with pytest.raises(UserError, match="Beside"):
        loss_of(distill(teacher=teacher), params, make_batch())
