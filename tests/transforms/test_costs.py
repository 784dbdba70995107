"""A frozen weight costs no gradient, and none is made dense: counted and searched in the gradient's jaxpr."""

import math

import jax
import jax.numpy as jnp
import pytest

from jitune import tree
from jitune.models import decoder
from jitune.planning.count import count_products
from jitune.transforms import chain, dora, full, lora, quantize
from jitune.transforms.weights import LINEAR
from tests.transforms.zoo import tiny

ROWS, SEQ, LAYERS, RANK = 3, 5, 2, 2
TOKENS = ROWS * SEQ


def trace(transform, **changes):
    """(jaxpr of the gradient, jaxpr of the plain forward, params and trainable as shapes) of a decoder."""
    model = decoder.build(tiny(**changes))
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = {"tokens": jnp.zeros((ROWS, SEQ), jnp.int32)}

    def forward(model, params):
        return jnp.square(model.unembed(params, model.hidden(params, batch)[0])).sum()

    frozen, trainable = jax.eval_shape(transform.init, jax.random.key(0), params)
    changed = transform.apply(model)
    graded = jax.value_and_grad(lambda trainable, frozen: forward(changed, (frozen, trainable)))
    plain = jax.make_jaxpr(lambda params: forward(model, params))(params)
    return jax.make_jaxpr(graded)(trainable, frozen), plain, params, trainable


def products(params, pattern):
    """FLOPs of a product with each weight that a pattern is found in, for all tokens."""
    return sum(2 * TOKENS * math.prod(x.shape) for path, x in tree.flatten(params).items()
               if tree.matches(pattern, path))  # fmt: skip


def counts(transform, **changes):
    graded, plain, params, trainable = trace(transform, **changes)
    forward, head = count_products(plain), products(params, "lm_head|embed" if changes.get("tie_word_embeddings")
                                                    else "lm_head")  # fmt: skip
    linear = products(params, LINEAR)
    return count_products(graded), forward, linear + head, forward - linear - head, products(trainable, "lora_")


@pytest.mark.parametrize("tied", [True, False])
def test_full_tuning_takes_three_forwards(tied):
    found, forward, *_ = counts(full(), tie_word_embeddings=tied)
    assert found == 3 * forward


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("transform", [lora(RANK, 3), chain(quantize("nf4"), lora(RANK, 3))], ids=["lora", "qlora"])
def test_lora_takes_no_gradient_of_frozen_weights(transform, tied):
    found, forward, weights, attention, factors = counts(transform, tie_word_embeddings=tied)
    # Forward 2 N T and what goes back through the weights 2 N T; attention has two gradients, factors as well.
    assert forward == weights + attention
    assert found == forward + weights + 2 * attention + 3 * factors


def test_remat_adds_a_forward_of_the_layers():
    found, *_ = counts(lora(RANK, 3), tie_word_embeddings=False)
    again, forward, weights, attention, factors = counts(lora(RANK, 3), tie_word_embeddings=False, remat="full")
    c = tiny()
    head = 2 * TOKENS * c.dim * c.vocab_size
    # All but the last product of a layer, down_proj's with the weight and with B, which no gradient needs.
    last = 2 * TOKENS * LAYERS * (c.mlp_dim * c.dim + RANK * c.dim)
    assert again - found == weights - head + attention + factors - last


def test_unrolled_layers_stop_at_the_first():
    found, *_ = counts(lora(RANK, 3), tie_word_embeddings=False)
    unrolled, *_ = counts(lora(RANK, 3), tie_word_embeddings=False, scan_layers=False)
    c = tiny()
    outputs = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    # No gradient goes on into the frozen embedding through q, k and v. (That through their A has a rule of its own, and
    # stands in the jaxpr unused; XLA drops it.)
    assert found - unrolled == 2 * TOKENS * c.dim * outputs


def test_dora_adds_the_norms():
    plain, *_ = counts(lora(RANK, 3), tie_word_embeddings=False)
    found, *_ = counts(dora(RANK, 3), tie_word_embeddings=False)
    _, _, params, _ = trace(full())
    r, norms = RANK, 0
    for path, x in tree.flatten(params).items():
        if tree.matches(LINEAR, path):
            layers, ins, outs = x.shape
            # W^T A, A^T A, B (A^T A) B^T and W^T A B^T: once for all tokens.
            norms += 2 * layers * (ins * outs * r + ins * r * r + outs * r * r + 2 * outs * r)
    assert found - plain == norms


def equations(jaxpr, inside=()):
    """(equation, names of the primitives that it is inside of), of all jaxprs within."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    for equation in jaxpr.eqns:
        yield equation, inside
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
                                     or hasattr(v, "jaxpr")):
            if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                yield from equations(value, (*inside, equation.primitive.name))


# Of these the model's own products need views, the tied head for one; no new number is computed.
VIEWS = ("transpose", "reshape", "squeeze", "stop_gradient", "jit", "pjit")


def dense(graded, params, pattern):
    """(primitive, shape, what it is inside of) of every array made that has a weight's shape, stacked or of a layer."""
    shapes = {x.shape[i:] for path, x in tree.flatten(params).items() if tree.matches(pattern, path)
              for i in range(x.ndim - 1)}  # fmt: skip
    return [(e.primitive.name, v.aval.shape, inside) for e, inside in equations(graded) for v in e.outvars
            if v.aval.shape in shapes and e.primitive.name not in VIEWS]  # fmt: skip


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("make", [lora, dora])
def test_nothing_of_a_weights_size_is_computed(make, remat):
    transform = make(RANK, 3, select="kernel|embedding")
    graded, _, params, _ = trace(transform, remat=remat, tie_word_embeddings=False)
    assert dense(graded, params, "kernel|embedding") == []
    whole, _, params, _ = trace(full(), remat=remat, tie_word_embeddings=False)
    assert len({shape for _, shape, _ in dense(whole, params, "kernel|embedding")}) >= 5


def test_quantized_weights_are_dense_one_at_a_time():
    graded, _, params, _ = trace(chain(quantize("nf4"), lora(RANK, 3)))
    found = dense(graded, params, LINEAR)
    assert found and all("scan" in inside for _, _, inside in found)
    # Nor does the forward scan hand one on to the backward one.
    stacked = {x.shape for path, x in tree.flatten(params).items() if tree.matches(LINEAR, path)}
    scans = [e for e, _ in equations(graded) if e.primitive.name == "scan"]
    assert len(scans) >= 2
    assert not stacked & {v.aval.shape for e in scans for v in (*e.outvars, *e.invars)}


def test_a_weight_that_a_call_does_not_use_is_not_built():
    model = decoder.build(tiny())
    params = jax.eval_shape(model.init, jax.random.key(0))
    transform = dora(RANK, 3)
    pair = jax.eval_shape(transform.init, jax.random.key(0), params)
    hidden = jax.ShapeDtypeStruct((ROWS, SEQ, tiny().dim), jnp.float32)
    head = jax.make_jaxpr(transform.apply(model).unembed)(pair, hidden)
    assert count_products(head) == 2 * TOKENS * tiny().dim * tiny().vocab_size

