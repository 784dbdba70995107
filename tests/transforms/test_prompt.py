"""Prompt tuning: the embeddings are as if they stood in front of every document."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune import sharding
from jitune.generation.generate import generate
from jitune.models import decoder
from jitune.transforms.chain import chain
from jitune.transforms.lora import lora
from jitune.transforms.prompt import prompt
from jitune.types import UserError
from tests.generation import scripted as toys
from tests.transforms import front
from tests.transforms.front import COUNT, FORMS, WINDOWS, check_close, documents, graded, packed_batch, real, run

core = pytest.mark.core


def tune(family="llama", form=FORMS[0], **options):
    """(the tuned model, (frozen, trainable), the plain model, its parameters)."""
    model, params, config = front.make(family, form)
    transform = prompt(COUNT, model=model, windows=config.windows, max_positions=config.max_positions, **options)
    return transform.apply(model), jax.jit(transform.init)(jax.random.key(5), params), model, params


def in_front_of_each(model, params, embeddings, batch):
    """Hidden states of a batch whose documents are run one by one, each behind the embeddings; zeros for padding."""
    table, width = model.embed(params, batch["tokens"]), COUNT + front.LONGEST
    places = list(documents())
    rows = jnp.stack([
        jnp.concatenate([embeddings, table[row, place], jnp.zeros((width, table.shape[-1]))])[:width]
        for row, place in places
    ])  # fmt: skip
    found, out = run(model, params, {"tokens": jnp.zeros(rows.shape[:2], jnp.int32), "embeddings": rows}), table * 0
    for (row, place), hidden in zip(places, found, strict=True):
        out = out.at[row, place].set(hidden[COUNT : COUNT + place.stop - place.start])
    return out


@core
@pytest.mark.parametrize("family", WINDOWS)
def test_packed_documents_are_as_if_alone_behind_the_embeddings(family):
    tuned, pair, model, params = tune(family)
    batch = packed_batch()

    def alone(trainable):
        return front.score(in_front_of_each(model, params, trainable["prompt"], batch), batch)

    found, grads = graded(tuned, pair, batch)
    expected, wanted = jax.jit(jax.value_and_grad(alone))(pair[1])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    check_close(grads, wanted)
    hidden = jax.jit(lambda: in_front_of_each(model, params, pair[1]["prompt"], batch))()
    np.testing.assert_allclose(real(run(tuned, pair, batch), batch), hidden, atol=2e-5)


@pytest.mark.parametrize("form", FORMS[2:4], ids=str)
def test_however_layers_and_attention_run(form):
    batch = packed_batch()
    expected, wanted = graded(*tune("qwen3")[:2], batch)
    found, grads = graded(*tune("qwen3", form)[:2], batch)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    check_close(grads, wanted)


def test_on_a_mesh():
    tuned, (frozen, trainable), _, _ = tune("llama", (True, "full", "auto"))
    batch = {k: np.tile(v, (4, 1)) for k, v in packed_batch().items()}
    expected, wanted = graded(tuned, (frozen, trainable), batch)
    mesh = sharding.make_mesh(2, 1, 4)
    homes = sharding.shardings((frozen["base"], trainable), mesh)
    base, placed = jax.device_put((frozen["base"], trainable), homes)
    with jax.set_mesh(mesh):
        found, grads = graded(tuned, ({"base": base}, placed), sharding.put_batch(batch, mesh, 8))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    check_close(grads, wanted)


@core
def test_a_prompt_of_text_is_the_text_in_front():
    tokens = [7, 300]
    tuned, pair, model, params = tune("mistral", init="text", tokens=tokens)
    np.testing.assert_array_equal(pair[1]["prompt"], params["embed"]["embedding"][np.array([7, 300, 7, 300, 7])])
    ids = np.random.default_rng(1).integers(1, 331, (2, 20))
    text = np.tile([7, 300, 7, 300, 7], (2, 1))
    expected = run(model, params, {"tokens": np.concatenate([text, ids], axis=1)})[:, COUNT:]
    np.testing.assert_allclose(run(tuned, pair, {"tokens": ids}), expected, atol=2e-5)


@core
def test_random_numbers_are_those_of_peft():
    _, params, config = front.make()
    model = decoder.build(config.replace(dtype="bfloat16"))
    frozen, trainable = prompt(400, model=model).init(jax.random.key(0), params)
    numbers = trainable["prompt"]
    assert frozen == {"base": params} and numbers.shape == (400, config.dim) and numbers.dtype == jnp.float32
    assert abs(float(numbers.mean())) < 0.03 and abs(float(numbers.std()) - 1) < 0.03


def test_behind_an_adapter():
    """The prompt goes through the adapted model, on either side of a chain."""
    model, params, _ = front.make("llama", (True, "none", "auto"))
    adapter, fronted = lora(2, 4, select=r"(q|v)_proj/kernel$"), prompt(COUNT, model=model)
    (kept, factors), (_, first) = (t.init(jax.random.key(0), params) for t in (adapter, fronted))
    factors = jax.tree.map(lambda x: 0.1 * jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape), factors)
    batch = packed_batch([[(1, 20), (2, 12)]])
    expected = run(fronted.apply(model), ({"base": adapter.merge(kept, factors)}, first), batch)
    pair = {"0": kept}, {"0": factors, "1": first}
    np.testing.assert_allclose(run(chain(adapter, fronted).apply(model), pair, batch), expected, atol=2e-5)
    pair = {"0": {"base": params}, "1": {"scale": kept["scale"]}}, {"0": first, "1": factors}
    np.testing.assert_allclose(run(chain(fronted, adapter).apply(model), pair, batch), expected, atol=2e-5)
    assert jax.eval_shape(chain(fronted, adapter).init, jax.random.key(0), params)[1].keys() == {"0", "1"}


@core
@pytest.mark.parametrize("options, message", [
    ({"num_tokens": -1}, "prompt: num_tokens=-1 must be at least 1"),
    ({"init": "zero"}, "prompt: init='zero' is not known; known are random, text"),
    ({"init": "text", "tokens": []}, "prompt: init='text' has no tokens"),
    ({"windows": (3, 0)}, "prompt: num_tokens=5 does not fit into the model's sliding window of 3; at most 2 do"),
], ids=lambda x: x if isinstance(x, str) else "")  # fmt: skip
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(UserError, match=f"^{message}"):
        prompt(**{"num_tokens": COUNT, "model": None, **options})


def test_generation_is_the_argmax_of_one_forward():
    tuned, pair, _, _ = tune("qwen3", (True, "none", "auto"))
    prompts = toys.prompts_of((1, 7, 33, 70))
    answers = generate(tuned, pair, None, prompts, max_new_tokens=9, batch_size=2)
    front.check_greedy(tuned, pair, prompts, answers, 9)
