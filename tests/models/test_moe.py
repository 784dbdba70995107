"""Mixture of experts: by hand, by plain loops over tokens, on meshes of eight devices, with a cache, and refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jitune import flops, tree
from jitune.generation.generate import generate
from jitune.leaves import grouped
from jitune.models import decoder, moe
from jitune.models.config import ModelConfig
from jitune.planning.count import count_products
from jitune.sharding import make_mesh, put_batch, shardings
from jitune.transforms import lora
from jitune.types import UserError
from tests.references import CONFIGS

# Experts over four devices: generation below.
MESHES = ({"expert": 2, "fsdp": 2, "tensor": 2}, {"expert": 2, "context": 2, "data": 2})
CONFIG = ModelConfig.from_hf(CONFIGS["qwen2_moe"] | {"num_experts": 8, "num_hidden_layers": 2, "vocab_size": 64})


@functools.cache
def start(config=CONFIG):
    params = decoder.build(config).init(jax.random.key(0))
    return jax.tree.map(lambda x: x * 5 if x.ndim > 2 else x, params)  # routers that tell tokens apart


def test_two_of_three_experts_by_hand():
    config = CONFIG.replace(num_experts=3, experts_per_token=2, norm_topk=False)
    shares, weights, experts = moe.choose(jnp.log(jnp.array([0.5, 0.2, 0.3])), config)
    np.testing.assert_allclose(shares, [0.5, 0.2, 0.3], 1e-6)
    assert experts.tolist() == [0, 2]
    np.testing.assert_allclose(weights, [0.5, 0.3], 1e-6)
    np.testing.assert_allclose(moe.choose(jnp.log(shares), config.replace(norm_topk=True))[1], [0.625, 0.375], 1e-6)


def test_the_balance_by_hand():
    """One token in two layers of two experts: f = ([1, 0] + [0, 1]) / 2, P = ([.7, .3] + [.4, .6]) / 2."""
    config = CONFIG.replace(num_experts=2, experts_per_token=1, router_coef=0.1)
    found = moe.routed(jnp.array([[1.0, 0], [0, 1]]), jnp.array([[0.7, 0.3], [0.4, 0.6]]), config)
    assert float(found.balance) == pytest.approx(1.0) and found.coef == 0.1
    assert found.load.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("rows", [3, 700])
def test_products_by_groups_and_their_gradients(rows):
    """Some groups are empty, and some rows are of none: their results and gradients are zeros."""
    rng = np.random.default_rng(rows)
    sizes = rng.multinomial(rows - rows // 5, [0.5, 0, 0.1, 0.4, 0])
    group = np.concatenate([np.repeat(np.arange(5), sizes), np.full(rows // 5 + (rows < 5), 5)])[:rows]
    x, w, g = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((rows, 6), (5, 6, 7), (rows, 7)))

    def by_rows(x, w):
        full = jnp.concatenate([w, jnp.zeros_like(w[:1])])
        return jnp.einsum("ri,rio->ro", x, full[group])

    def ours(x, w):
        return grouped.product(x[None], w, jnp.asarray(sizes, jnp.int32)[None], precision="highest")[0]

    for function in (ours, lambda x, w: lax.ragged_dot(x, w, jnp.asarray(sizes, jnp.int32), "highest")):
        found, back = jax.vjp(function, x, w)
        wanted, wanted_back = jax.vjp(by_rows, x, w)
        np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)
        for a, b in zip(back(g), wanted_back(g), strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-4)


def test_what_moves_may_change():
    """In one process x moves alone, as under adapters, then the weights too: nothing is left over from another turn."""
    x, w, sizes = jnp.ones((1, 6, 4)), jnp.arange(24.0).reshape(3, 4, 2), jnp.array([[2, 0, 4]], jnp.int32)

    def plain(x, w):
        return jnp.square(grouped.product(x, w, sizes, precision="highest")).sum()

    def scanned(x, w):
        layer = jax.checkpoint(lambda total, _: (total + plain(x + 0 * total, w), None))
        return lax.scan(layer, 0.0, None, length=1)[0]

    for first, second in ((scanned, plain), (plain, scanned)):
        for function, moves in ((first, 0), (first, (0, 1)), (second, 0), (second, 1), (first, (0, 1)), (first, 0)):
            jax.make_jaxpr(jax.grad(function, moves))(x, w)
    jax.tree.map(np.testing.assert_array_equal, jax.grad(scanned, (0, 1))(x, w), jax.grad(plain, (0, 1))(x, w))


BATCH = {"tokens": np.random.default_rng(0).integers(0, 64, (8, 16), np.int32),
         "segment_ids": np.ones((8, 16), np.int32)}  # fmt: skip
BATCH["segment_ids"][1, :5] = 0
BATCH["segment_ids"][2, 9:] = 2
COTANGENT = np.random.default_rng(1).normal(size=(8, 16, 64)) * (BATCH["segment_ids"] > 0)[..., None]


def grade(config, transform=None, mesh=None):
    """((logits, balance, load), gradients by path) of the model, or of what a transform trains."""
    model, pair = decoder.build(config), ({}, start())
    if transform:
        pair = transform.init(jax.random.key(0), start())
        pair = pair[0], jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), pair[1])
        model = transform.apply(model)

    def loss(trainable, frozen, batch):
        params = (frozen, trainable) if transform else trainable
        hidden, routed = model.hidden(params, batch)
        logits = model.unembed(params, hidden)
        return (logits * COTANGENT).sum() + 3 * routed.balance, (logits, routed.balance, routed.load)

    graded, batch = jax.jit(jax.value_and_grad(loss, has_aux=True)), BATCH
    if mesh is None:
        (_, found), grads = graded(pair[1], pair[0], batch)
    else:
        pair = jax.device_put(pair, (shardings(pair[0], mesh), shardings(pair[1], mesh)))
        with jax.set_mesh(mesh):
            (_, found), grads = graded(pair[1], pair[0], put_batch(batch, mesh, 8))
    logits = np.asarray(found[0]) * (BATCH["segment_ids"] > 0)[..., None]
    return (logits, *found[1:]), tree.flatten(grads)


one_device = functools.cache(lambda transform=None: grade(CONFIG, transform))


def check(found, wanted):
    for a, b in zip(found[0], wanted[0], strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 2e-5)
    for path, grad in wanted[1].items():
        assert np.linalg.norm(found[1][path] - grad) <= 1e-4 * np.linalg.norm(grad), path


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_eight_devices_equal_one(sizes):
    check(grade(CONFIG, mesh=make_mesh(**{"fsdp": 1, **sizes})), one_device())


LORA = lora(2, 3)


def test_factors_of_experts_on_eight_devices():
    check(grade(CONFIG, LORA, make_mesh(expert=2, fsdp=2, tensor=2)), one_device(LORA))


def test_generation_with_a_cache_on_eight_devices():
    model, prompts = decoder.build(CONFIG), [[1, 5, 9, 4], [3, 2], [7] * 9]
    alone = generate(model, start(), None, prompts, max_new_tokens=8)
    mesh = make_mesh(expert=4, fsdp=2)
    params = jax.device_put(start(), shardings(start(), mesh))
    together = generate(model, params, None, prompts, max_new_tokens=8)
    assert [a.tokens for a in together] == [a.tokens for a in alone]
    assert len({tuple(a.tokens) for a in alone}) == 3


def test_padding_is_sent_nowhere():
    """Whatever stands in padding, it counts nowhere and changes nothing; nor do the routers' numbers see it."""
    model = decoder.build(CONFIG)
    run = jax.jit(lambda batch: model.hidden(start(), batch))
    other = {**BATCH, "tokens": np.where(BATCH["segment_ids"], BATCH["tokens"], 7)}
    (first, routed), (second, same) = run(BATCH), run(other)
    np.testing.assert_array_equal(first[BATCH["segment_ids"] > 0], second[BATCH["segment_ids"] > 0])
    assert float(routed.balance) == float(same.balance)


def test_an_expert_axis_that_does_not_divide_is_refused():
    config = CONFIG.replace(num_experts=6)
    with jax.set_mesh(make_mesh(expert=4, fsdp=2)), pytest.raises(UserError, match="expert=4 does not divide .* 6"):
        jax.eval_shape(lambda: decoder.build(config).hidden(decoder.build(config).init(jax.random.key(0)), BATCH))


@pytest.mark.parametrize("changes, message", [
    ({"decoder_sparse_step": 2}, "decoder_sparse_step=2, mlp_only_layers=.*: layers without experts"),
    ({"mlp_only_layers": [1]}, r"mlp_only_layers=\[1\]: layers without experts"),
    ({"num_experts_per_tok": 9}, "num_experts_per_tok=9 is more than the 5 experts"),
    ({"num_local_experts": 7}, "num_experts=5 and num_local_experts=7"),
    ({"num_experts": 0}, "num_experts is 0"),
    ({"router_jitter_noise": 0.1}, "router_jitter_noise"),
])  # fmt: skip
def test_configs_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        ModelConfig.from_hf(CONFIGS["qwen2_moe"] | changes)


def test_both_names_of_the_number_of_experts():
    raw = CONFIGS["qwen3_moe"]
    saved = {k: v for k, v in raw.items() if k != "num_experts"} | {"num_local_experts": raw["num_experts"]}
    assert ModelConfig.from_hf(saved).num_experts == ModelConfig.from_hf(raw).num_experts == 6


def test_a_coefficient_without_experts_is_refused():
    with pytest.raises(UserError, match="no experts"):
        decoder.build(ModelConfig.from_hf(CONFIGS["llama2"]).replace(router_coef=0.1))


@pytest.mark.parametrize("case", ["mixtral", "qwen2_moe"])
def test_flops_count_what_a_token_is_sent_to(case):
    """Products as traced, ragged ones too; of dense attention every pair."""
    config = ModelConfig.from_hf(CONFIGS[case])
    model = decoder.build(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = {"tokens": jnp.zeros((2, 12), jnp.int32)}

    def loss(params):
        return jnp.square(model.unembed(params, model.hidden(params, batch)[0])).sum()

    pairs = config.num_layers * 2 * 12**2
    assert count_products(jax.make_jaxpr(jax.grad(loss))(params)) == flops.train_flops(config, 24, pairs)
    sizes = {path: x.size for path, x in tree.flatten(params).items() if path.endswith("kernel")}
    assert flops.active(config, sizes) == flops.matmul_params(config)


def test_the_backward_pass_keeps_products_of_experts():
    """With remat=dots it computes no product again, with full all of them."""
    def products(remat):
        model = decoder.build(CONFIG.replace(remat=remat))
        loss = lambda params: jnp.square(model.hidden(params, BATCH)[0]).sum()  # noqa: E731
        return count_products(jax.make_jaxpr(jax.grad(loss))(jax.eval_shape(start)))

    assert products("dots") == products("none") < products("full")


def test_flops_on_a_mesh_count_each_choice_once():
    """All devices together take the products that one takes, however experts are spread."""
    model, params = decoder.build(CONFIG), jax.eval_shape(start)
    alone = count_products(jax.make_jaxpr(model.hidden)(params, BATCH))
    with jax.set_mesh(make_mesh(expert=4, fsdp=2)):
        assert count_products(jax.make_jaxpr(model.hidden)(params, BATCH)) == alone
