"""Kinds of models that weights are changed in, small: {name: (params, function(params, x) -> arrays)}, x [2, 5, 8].

The names of weights say how they are laid out (LAYOUTS), so that one pattern takes all of them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.models.flax_bridge import from_nnx

# What is multiplied with, of all models here; biases and scales are the rest.
WEIGHTS = r"(kernel|embedding|weight)$"
LAYOUTS = {
    r"^general/.*kernel$": "iioo",
    r"^(scan|scan_remat|nn_vmap|jax_vmap|experts)/.*(kernel|weight)$": "lio",
    r"^raw/qkv_weight$": "iooo",
    r"^raw/heads_weight$": "ioo",
    r"^raw/back_weight$": "iio",
    r"^two_stacks/weight$": "llio",
    r"^decoder.*/layers/.*kernel$": "lio",
}  # fmt: skip
# Axes of the tables of tokens, for `tokens`.
TABLES = {r"embed/embedding$": 0, r"lm_head/kernel$": -1}
TOKENS = jnp.array([[1, 5, 2, 1, 7], [0, 3, 9, 11, 5]])
SEGMENTS = jnp.array([[1, 1, 1, 2, 2], [1, 1, 1, 1, 0]])


def x_of(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, 5, 8)), jnp.float32)


def fill(shapes, seed=1):
    """Random arrays in place of shapes; biases are not zero and scales not one, which would hide mistakes in either."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape) / 3, s.dtype), shapes)


def arrays(**shapes):
    return fill({name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()})


def linen(module, given=None):
    """Of a Linen module: its params and its function; given: its inputs, x by default."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), x_of() if given is None else given)["params"]
    return fill(shapes), lambda params, x: module.apply({"params": params}, x if given is None else given)


class Block(nn.Module):
    """A layer of a stack: Dense and an activation that has a derivative of its own."""

    @nn.compact
    def __call__(self, x, _=None):
        return x + jax.nn.silu(nn.Dense(8)(x)), None


class Stack(nn.Module):
    remat: bool = False

    @nn.compact
    def __call__(self, x):
        block = nn.remat(Block, prevent_cse=False) if self.remat else Block
        return nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)()(x, None)[0]


class General(nn.Module):
    """Several axes in, several out, and not the last ones."""

    @nn.compact
    def __call__(self, x):
        y = nn.DenseGeneral((3, 4), axis=(-2, -1))(x.reshape(2, 5, 2, 4))
        return nn.DenseGeneral((2, 2), axis=(1, 2))(y)


class Embedded(nn.Module):
    """A table for look-ups and, turned round, as the head."""

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(12, 8, name="embed")
        return embed.attend(nn.LayerNorm()(embed(tokens)))


def raw():
    """Weights multiplied as they come: on either side of the product, in many layouts, turned and cut."""
    params = arrays(
        qkv_weight=(8, 3, 2, 4), heads_weight=(8, 2, 3), back_weight=(2, 4, 8), left_weight=(6, 8),
        turned_weight=(6, 8), cut_weight=(8, 12), same_weight=(8, 8), bias=(8,),
    )  # fmt: skip

    def function(p, x):
        q, k, v = jnp.moveaxis(jnp.einsum("btd,dchk->btchk", x, p["qkv_weight"]), 2, 0)
        out = jnp.einsum("hkd,bthk->btd", p["back_weight"], q * jax.nn.sigmoid(k) + v) + p["bias"]
        first, second = jnp.split(p["cut_weight"], 2, axis=1)
        return {
            "out": out,
            "heads": jnp.tensordot(x, p["heads_weight"], 1),
            "left": jnp.einsum("od,btd->bto", p["left_weight"], x),
            "turned": x @ p["turned_weight"].T,
            "cut": (x @ first) * (x @ second),
            "flat": x @ p["heads_weight"].reshape(8, 6) @ p["qkv_weight"].reshape(8, 24)[:6],
            "twice": x @ p["same_weight"] @ (0.5 * p["same_weight"]) - x @ (-p["same_weight"] / 3),
        }

    return params, function


@jax.custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (x**3, x), lambda x, g: (3 * x**2 * g,))


@jax.custom_vjp
def written(x, w):
    """A product whose derivative is written by hand."""
    return x @ w


written.defvjp(lambda x, w: (x @ w, (x, w)), lambda s, g: (g @ s[1].T, jnp.einsum("bti,bto->io", s[0], g)))


@jax.custom_jvp
def ruled(x, w):
    return jnp.sin(x @ w)


@ruled.defjvp
def _ruled_jvp(primals, tangents):
    (x, w), (dx, dw) = primals, tangents
    return ruled(x, w), jnp.cos(x @ w) * (dx @ w + x @ dw)


def custom():
    params = arrays(a_kernel=(8, 8), b_kernel=(8, 8), c_kernel=(8, 8))

    def function(p, x):
        return {"activation": cube(x @ p["a_kernel"]), "vjp": written(x, p["b_kernel"]),
                "jvp": ruled(x, p["c_kernel"])}  # fmt: skip

    return params, function


class Experts(nn.Module):
    """One Dense for each of three rows, by nn.vmap."""

    @nn.compact
    def __call__(self, x):
        return nn.vmap(nn.Dense, variable_axes={"params": 0}, split_rngs={"params": True})(4)(x[:, :3].swapaxes(0, 1))


def jax_vmap():
    """Weights mapped over, inputs mapped over, and a stack of which each token takes its own by index."""
    params = arrays(weight=(3, 8, 4))

    def function(p, x):
        return {"weights": jax.vmap(lambda w: x @ w)(p["weight"]),
                "both": jax.vmap(lambda w, x: x @ w, (0, 1))(p["weight"], x[:, :3]),
                "rows": jax.vmap(lambda x: x @ p["weight"][1])(x)}  # fmt: skip

    return params, function


def two_stacks():
    """A scan in a scan, over weights [outer, inner, in, out]."""
    params = arrays(weight=(2, 3, 8, 8))

    def function(p, x):
        def layer(x, w):
            return jnp.tanh(x @ w), None

        return jax.lax.scan(lambda x, ws: jax.lax.scan(jax.checkpoint(layer), x, ws), x, p["weight"])[0]

    return params, function


def control():
    """Conditions, loops of a known length, and a scan that closes over its weight."""
    params = arrays(a_kernel=(8, 8), b_kernel=(8, 8), c_kernel=(8, 8), d_kernel=(8, 8))

    def function(p, x):
        def pick(i):
            return jax.lax.switch(i, [lambda x: x @ p["a_kernel"], lambda x: jnp.sin(x @ p["b_kernel"])], x)

        def step(i, x):
            return jnp.tanh(x @ p["c_kernel"])

        held = jax.lax.scan(lambda c, x: ((jnp.tanh(c[0] + x @ c[1]), c[1]), c[0]), (x[:, 0], p["d_kernel"]),
                            jnp.moveaxis(x, 1, 0))  # fmt: skip
        return {"cond": pick((x.sum() > 0).astype(int)) + pick(1), "fori": jax.lax.fori_loop(0, 3, step, x),
                "carried": held[0][0]}  # fmt: skip

    return params, function


def endless():
    """A while loop: it has no derivative backward."""
    params = arrays(kernel=(8, 8))

    def function(p, x):
        return jax.lax.while_loop(lambda c: c[1] < jnp.int32(x.shape[1]) - 2,
                                  lambda c: (jnp.tanh(c[0] @ p["kernel"]), c[1] + 1), (x, 0))[0]  # fmt: skip

    return params, function


class NnxMlp(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(2)])
        self.out = nnx.LinearGeneral((8,), (2, 3), rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.gelu(layer(x))
        return self.out(x)


def of_nnx():
    model, shapes = from_nnx(nnx.eval_shape(lambda: NnxMlp(nnx.Rngs(0))))
    return fill(shapes), model.hidden


def tiny(**changes):
    raw = {"model_type": "qwen3", **FAMILIES["qwen3"].presets["tiny"], "vocab_size": 12, "hidden_size": 8,
           "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
           "num_hidden_layers": 2}  # fmt: skip
    fields = {k: changes.pop(k) for k in ("scan_layers", "remat", "dtype") if k in changes}
    return ModelConfig.from_hf({**raw, **changes}).replace(**fields)


def of_decoder(**changes):
    """jitune's own: x is added to the hidden states."""
    model = decoder.build(tiny(**changes))
    batch = {"tokens": TOKENS, "segment_ids": SEGMENTS}

    def function(params, x):
        hidden, _ = model.hidden(params, batch)
        return {"logits": model.unembed(params, hidden + 0.1 * x), "embedded": model.embed(params, TOKENS)}

    return fill(jax.eval_shape(model.init, jax.random.key(0))), function


@functools.cache
def modules():
    """Flax's layers and JAX's transformations."""
    return {
        "bias": linen(nn.Dense(6)),
        "general": linen(General()),
        "raw": raw(),
        "attention": linen(nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8)),
        "embedded": linen(Embedded(), TOKENS),
        "scan": linen(Stack()),
        "remat": linen(nn.remat(nn.Dense)(6)),
        "scan_remat": linen(Stack(remat=True)),
        "custom": custom(),
        "experts": linen(Experts()),
        "jax_vmap": jax_vmap(),
        "two_stacks": two_stacks(),
        "control": control(),
        "nnx": of_nnx(),
    }


@functools.cache
def decoders():
    """jitune's decoder: scanned with remat, and unrolled without."""
    return {
        "decoder_scan_remat": of_decoder(tie_word_embeddings=False, remat="full"),
        "decoder_unrolled": of_decoder(tie_word_embeddings=True, scan_layers=False),
    }


def together(models):
    """(params, function) of several models: both nested by name."""
    params = {name: p for name, (p, _) in models.items()}
    return params, lambda params, x: {name: f(params[name], x) for name, (_, f) in models.items()}
