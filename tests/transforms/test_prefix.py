"""Prefix tuning: packed documents behind a prefix are as if alone behind it, in training and in generation."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jitune import sharding, tree
from jitune.generation import decode_loop
from jitune.generation.generate import generate, generate_file, stream
from jitune.models import decoder
from jitune.objectives.sft import sft
from jitune.step import make_train_step
from jitune.transforms.chain import chain
from jitune.transforms.lora import lora
from jitune.transforms.prefix import prefix, project
from jitune.transforms.prompt import prompt
from jitune.transforms.quantize import quantize
from jitune.types import Prefix, Pretrained, TrainState, UserError
from tests.data import toy
from tests.generation import scripted as toys
from tests.transforms import front
from tests.transforms.front import COUNT, FORMS, WINDOWS, check_close, graded, packed_batch, real, run, score

core = pytest.mark.core


def tune(family="llama", form=FORMS[0], **options):
    """(the tuned model, (frozen, trainable), the plain model, its parameters)."""
    model, params, made = front.make(family, form)
    transform = prefix(COUNT, model=model, windows=made.windows, max_positions=made.max_positions, **options)
    return transform.apply(model), jax.jit(transform.init)(jax.random.key(5), params), model, params


@core
@pytest.mark.parametrize("family", WINDOWS)
def test_packed_documents_are_as_if_alone_behind_a_full_cache(family):
    tuned, pair, model, params = tune(family)
    batch = packed_batch()
    found = real(run(tuned, pair, batch), batch)
    np.testing.assert_allclose(found, front.twin(model, params, Prefix(*project(pair[1])), batch), atol=2e-5)


@core
def test_gradients_are_those_of_the_documents_alone():
    tuned, pair, model, params = tune("mistral")
    batch = packed_batch()
    found, grads = graded(tuned, pair, batch)

    def alone(trainable):
        return score(front.twin(model, params, Prefix(*project(trainable)), batch), batch)

    expected, wanted = jax.jit(jax.value_and_grad(alone))(pair[1])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    check_close(grads, wanted)


@pytest.mark.parametrize("form", FORMS[1:], ids=str)
@pytest.mark.parametrize("family", ["qwen3"])
def test_however_layers_and_attention_run(family, form):
    batch = packed_batch()
    expected, wanted = graded(*tune(family)[:2], batch)
    found, grads = graded(*tune(family, form)[:2], batch)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    check_close(grads, wanted)


def test_on_a_mesh():
    tuned, (frozen, trainable), _, _ = tune("qwen3", (True, "full", "auto"), projection=6)
    batch = {k: np.tile(v, (4, 1)) for k, v in packed_batch().items()}
    expected, wanted = graded(tuned, (frozen, trainable), batch)
    mesh = sharding.make_mesh(2, 2, 2)
    homes = sharding.shardings((frozen["base"], trainable), mesh)
    assert {home.spec for home in jax.tree.leaves(homes[1])} == {jax.sharding.PartitionSpec()}
    base, placed = jax.device_put((frozen["base"], trainable), homes)
    with jax.set_mesh(mesh):
        found, grads = graded(tuned, ({"base": base}, placed), sharding.put_batch(batch, mesh, 8))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    check_close(grads, wanted)


def test_accumulated_steps_are_one_step():
    tuned, (frozen, trainable), _, _ = tune(form=(True, "none", "auto"))
    batch = {k: np.tile(v, (2, 1)) for k, v in packed_batch().items()}
    batch |= {"targets": np.roll(batch["tokens"], -1, 1), "loss_weights": np.float32(batch["segment_ids"] > 0)}
    optimizer = optax.sgd(0.1)

    def step(microbatches):
        run = jax.jit(make_train_step(tuned, sft(), optimizer, microbatches))
        state = TrainState(jnp.int32(0), trainable, optimizer.init(trainable))
        return run(state, frozen, batch, jax.random.key(0))

    (one, metrics), (four, again) = step(1), step(4)
    np.testing.assert_allclose(again["loss"], metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(again["grad_norm"], metrics["grad_norm"], rtol=1e-5)
    check_close(four.trainable, one.trainable)
    assert metrics["grad_norm"] > 1e-3


@core
def test_a_prefix_slides_out_of_windows():
    window, count = 6, 3
    model, params, _ = toys.tiny("mistral", sliding_window=window, num_hidden_layers=1)
    transform = prefix(count, model=model)
    tuned, (frozen, trainable) = transform.apply(model), transform.init(jax.random.key(0), params)
    batch = packed_batch([[(0, 2), (1, 8), (2, 5)]])

    @jax.jit
    def run(trainable):
        # The decode loop's way too: left-padded rows in a cache, two parts.
        row = {k: v[:, :10] for k, v in batch.items()}
        cache, hidden = tuned.init_cache(1, 10), []
        for part in (slice(0, 6), slice(6, 10)):
            out, cache = tuned.hidden((frozen, trainable), {k: v[:, part] for k, v in row.items()}, cache)
            hidden.append(out)
        return tuned.hidden((frozen, trainable), batch)[0], jnp.concatenate(hidden, axis=1)

    base, cached = run(trainable)
    np.testing.assert_allclose(cached[0, 2:], base[0, 2:10], atol=2e-5)
    for slot in range(count):
        other, cached = run({"prefix": {**trainable["prefix"], "v": trainable["prefix"]["v"].at[:, slot].add(1)}})
        sees = (batch["segment_ids"][0] > 0) & (count + batch["positions"][0] - slot < window)
        moved = np.any(other[0] != base[0], axis=-1) & (batch["segment_ids"][0] > 0)
        np.testing.assert_array_equal(moved, sees)
        np.testing.assert_allclose(cached[0, 2:], other[0, 2:10], atol=2e-5)


# How it starts.


@core
@pytest.mark.parametrize("family", ["mistral", "qwen3"])
def test_a_prefix_of_text_is_the_text_in_front(family):
    tokens = [7, 300, 12]
    tuned, pair, model, params = tune(family, init="text", tokens=tokens)
    ids = np.random.default_rng(1).integers(1, 331, (2, 20))
    text = np.tile([*tokens, *tokens[: COUNT - 3]], (2, 1))
    expected = run(model, params, {"tokens": np.concatenate([text, ids], axis=1)})[:, COUNT:]
    np.testing.assert_allclose(run(tuned, pair, {"tokens": ids}), expected, atol=2e-5)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(pair[1]))


@core
def test_a_zero_prefix_takes_its_share_of_every_softmax():
    tuned, pair, model, params = tune(init="zero")
    assert not any(np.any(x) for x in jax.tree.leaves(pair[1]))
    batch = packed_batch()
    found = real(run(tuned, pair, batch), batch)
    np.testing.assert_allclose(found, front.twin(model, params, Prefix(*project(pair[1])), batch), atol=2e-5)
    assert np.abs(found - real(run(model, params, batch), batch)).max() > 0.01


@core
def test_random_numbers_are_those_of_peft():
    model, params, config = front.make()
    shape = (config.num_layers, 300, config.num_kv_heads, config.head_dim)
    frozen, trainable = prefix(300, model=model).init(jax.random.key(0), params)
    assert frozen == {"base": params}
    for x in trainable["prefix"].values():
        assert x.shape == shape and abs(float(x.mean())) < 0.03 and abs(float(x.std()) - 1) < 0.03
    assert np.any(trainable["prefix"]["k"] != trainable["prefix"]["v"])
    _, other = prefix(300, model=model).init(jax.random.key(1), params)
    assert np.all(other["prefix"]["k"] != trainable["prefix"]["k"])

    _, trainable = prefix(300, model=model, projection=50).init(jax.random.key(0), params)
    dim = shape[2] * shape[3]
    leaves = tree.flatten(trainable["prefix"])
    assert {path: x.shape for path, x in leaves.items()} == {
        "embedding": (300, dim), "mlp/hidden/kernel": (dim, 50), "mlp/hidden/bias": (50,),
        "mlp/out/kernel": (50, shape[0], 2, *shape[2:]), "mlp/out/bias": (shape[0], 2, *shape[2:]),
    }  # fmt: skip
    for path, inputs in (("mlp/hidden/kernel", dim), ("mlp/hidden/bias", dim), ("mlp/out/kernel", 50)):
        assert 0.8 * inputs**-0.5 < float(jnp.abs(leaves[path]).max()) <= inputs**-0.5, path
        np.testing.assert_allclose(leaves[path].std() * inputs**0.5, 3**-0.5, rtol=0.15)
    k, v = project(trainable)
    assert k.shape == v.shape == shape and np.any(k != v)
    flat = jnp.tanh(leaves["embedding"] @ leaves["mlp/hidden/kernel"] + leaves["mlp/hidden/bias"])
    flat = flat @ leaves["mlp/out/kernel"].reshape(50, -1) + leaves["mlp/out/bias"].reshape(-1)
    np.testing.assert_allclose(k, jnp.moveaxis(flat.reshape(300, shape[0], 2, *shape[2:])[:, :, 0], 0, 1), atol=1e-5)
    _, zero = prefix(300, model=model, projection=50, init="zero").init(jax.random.key(0), params)
    assert not np.any(project(zero)) and np.any(zero["prefix"]["embedding"])


@core
def test_bfloat16():
    model, params, config = front.make("mistral")
    model = decoder.build(config.replace(dtype="bfloat16"))
    transform = prefix(COUNT, model=model, projection=4)
    tuned, pair = transform.apply(model), transform.init(jax.random.key(0), params)
    batch = packed_batch()
    assert jax.eval_shape(tuned.hidden, pair, batch)[0].dtype == jnp.bfloat16
    found, grads = graded(tuned, pair, batch)
    expected, wanted = graded(*tune("mistral", projection=4)[:2], batch)
    assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    norm = optax.tree.norm(wanted)
    assert np.isfinite(found) and abs(float(optax.tree.norm(grads) / norm) - 1) < 0.3


# With other transforms.


def test_in_chains():
    model, params, _ = front.make("qwen3", (True, "none", "auto"))
    batch = packed_batch([[(1, 20), (2, 12)]])
    adapter, fronted = lora(2, 4, select=r"(q|v)_proj/kernel$"), prefix(COUNT, model=model)
    (kept, factors), (_, first) = (t.init(jax.random.key(0), params) for t in (adapter, fronted))
    factors = jax.tree.map(lambda x: 0.1 * jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape), factors)
    merged = {"base": adapter.merge(kept, factors)}, first
    expected = run(fronted.apply(model), merged, batch)
    assert np.abs(expected - run(fronted.apply(model), ({"base": params}, first), batch)).max() > 0.1
    for transforms, trainable in (((adapter, fronted), (factors, first)), ((fronted, adapter), (first, factors))):
        transform, trainable = chain(*transforms), {str(i): x for i, x in enumerate(trainable)}
        assert transform.merge is None
        frozen, fresh = jax.eval_shape(transform.init, jax.random.key(0), params)
        assert jax.tree.structure(fresh) == jax.tree.structure(trainable)
        scale = {"scale": kept["scale"]}
        frozen = {"0": kept} if transforms[0] is adapter else {"0": {"base": params}, "1": scale}
        np.testing.assert_allclose(run(transform.apply(model), (frozen, trainable), batch), expected, atol=2e-5)
        in_front = str(transforms.index(fronted))
        sharding.shardings({in_front: trainable[in_front]}, sharding.make_mesh())


def test_text_over_a_quantized_base():
    model, params, _ = front.make("mistral", (True, "none", "auto"))
    bits = quantize("int8")
    transform = chain(bits, prefix(3, model=model, init="text", tokens=[7, 300, 12]))
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), params)
    assert list(frozen) == ["0"] and list(trainable) == ["1"]
    ids = np.random.default_rng(1).integers(1, 331, (2, 20))
    text = np.concatenate([np.tile([7, 300, 12], (2, 1)), ids], axis=1)
    expected = run(model, bits.merge(frozen["0"], {}), {"tokens": text})[:, 3:]
    np.testing.assert_allclose(run(transform.apply(model), (frozen, trainable), {"tokens": ids}), expected, atol=5e-5)


@core
@pytest.mark.parametrize("options, message", [
    ({"num_tokens": 0}, "prefix: num_tokens=0 must be at least 1"),
    ({"init": "ones"}, "prefix: init='ones' is not known; known are random, zero, text"),
    ({"init": "text"}, "prefix: init='text' has no tokens; tokens are for"),
    ({"tokens": [1, 2]}, "prefix: init='random' has 2 tokens; tokens are for init='text'"),
    ({"init": "text", "tokens": [1], "projection": 8}, "prefix: projection=8 is not possible; it is 0 with init='t"),
    ({"projection": -1}, "prefix: projection=-1 is not possible; it is a width, or 0 for none"),
    ({"windows": (0, 5, 20)}, "prefix: num_tokens=5 does not fit into the model's sliding window of 5; at most 4 do"),
    ({"max_positions": 5}, "prefix: num_tokens=5 leaves nothing of the model's context of 5"),
], ids=lambda x: x if isinstance(x, str) else "")  # fmt: skip
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(UserError, match="^" + message.replace("(", r"\(")):
        prefix(**{"num_tokens": COUNT, "model": None, **options})


@core
def test_two_things_in_front_are_refused():
    model, _, _ = front.make()
    with pytest.raises(UserError, match="^prompt: the model has a prefix or a prompt in front already"):
        chain(prompt(3, model=model), prefix(3, model=model)).apply(model)


# Generation.


@pytest.mark.parametrize("family", ["mistral", "qwen3"])
def test_generation_is_the_argmax_of_one_forward(family):
    tuned, pair, _, _ = tune(family, (family != "qwen3", "none", "auto"))
    prompts = toys.prompts_of((1, 2, 7, 31, 70, 33))
    answers = generate(tuned, pair, None, prompts, max_new_tokens=9, batch_size=4)
    front.check_greedy(tuned, pair, prompts, answers, 9)


def test_several_chunks_and_a_cache_that_grows():
    tuned, pair, _, _ = tune("mistral", (True, "none", "auto"))
    prompts = toys.prompts_of((decode_loop.CHUNK + 30, 40))
    front.check_greedy(tuned, pair, prompts, generate(tuned, pair, None, prompts, max_new_tokens=130), 130)


def test_generation_on_a_mesh():
    tuned, pair, _, _ = tune("qwen3", (True, "none", "auto"))
    prompts = toys.prompts_of((1, 20, 33))
    expected = [a.tokens for a in generate(tuned, pair, None, prompts, max_new_tokens=6)]
    mesh = sharding.make_mesh(2, 2, 2)
    homes = sharding.shardings((pair[0]["base"], pair[1]), mesh)
    base, placed = jax.device_put((pair[0]["base"], pair[1]), homes)
    answers = generate(tuned, ({"base": base}, placed), None, prompts, max_new_tokens=6)
    assert [a.tokens for a in answers] == expected


@core
def test_the_context_has_the_prefix_in_it():
    tuned, pair, _, _ = tune()
    prompts = toys.prompts_of((10, 18))
    answers = generate(tuned, pair, None, prompts, max_new_tokens=20, max_positions=26)
    assert [len(a.tokens) for a in answers] == [26 - COUNT - 10, 26 - COUNT - 18]
    ends = generate(tuned, pair, None, prompts, max_new_tokens=20, stop_ids=[answers[0].tokens[1]])
    assert (ends[0].tokens, ends[0].finish_reason) == (answers[0].tokens[:2], "stop")
    message = "the prompt has 18 tokens, and the model's context of 23, of which 5 are trained ones in front, leaves no"
    with pytest.raises(UserError, match=f"^prompt 2 of 2: {message}"):
        generate(tuned, pair, None, prompts, max_new_tokens=20, max_positions=23)
    with pytest.raises(UserError, match=f"^prompt: {message}"):
        next(stream(tuned, pair, None, prompts[1], max_new_tokens=20, max_positions=23))


def test_files_and_streams(tmp_path):
    tokenizer = toy.make_tokenizer()
    model, params, config = toys.tiny(vocab_size=len(tokenizer))
    transform = prefix(COUNT, model=model)
    pretrained = Pretrained(transform.apply(model), transform.init(jax.random.key(0), params), tokenizer, config)
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"prompt": "the quick"}) + "\n" + json.dumps({"prompt": "the lazy dog"}) + "\n")
    answers = generate_file(pretrained, source, out, max_new_tokens=6, progress=False)
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["text"] for r in written] == [a.text for a in answers]
    pieces = stream(*pretrained[:3], tokenizer.encode("the quick"), max_new_tokens=6)
    assert "".join(pieces) == answers[0].text != ""
    plain = generate(model, params, tokenizer, [tokenizer.encode("the quick")], max_new_tokens=6)
    assert plain[0].tokens != answers[0].tokens
    short = pretrained._replace(config=config.replace(max_positions=9))
    with pytest.raises(UserError, match=r"in\.jsonl:2: the prompt has 5 tokens, .* 9, of which 5 are trained ones"):
        generate_file(short, source, out, max_new_tokens=6, progress=False)
