"""Attention round a ring of devices is that of one device: values, gradients, no array that grows with both sides."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jitune.models import context_attention
from jitune.models.attention import attend
from jitune.models.context_attention import attend_ring
from jitune.planning import hlo
from jitune.planning.count import count_products
from jitune.sharding import make_mesh
from jitune.types import Prefix, UserError

ROWS, SEQ, HEADS, DIM, FRONT = 2, 48, 4, 16, 3
MESHES = {"ring of 8": {"fsdp": 1, "context": 8}, "every axis": {"fsdp": 2, "context": 2, "tensor": 2},
          "more devices than kv heads": {"fsdp": 1, "context": 2, "tensor": 4}}  # fmt: skip
CASES = {
    "packed": {}, "window": {"window": 5}, "prefix": {"prefix": True}, "tree": {"tree": True},
    "all at once": {"window": 7, "prefix": True, "softcap": 2.0, "scale": 0.3},
}


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def rows_of_documents():
    """Documents of different lengths, of which some lie on several devices, and padding."""
    segments = np.ones((ROWS, SEQ), np.int32)
    segments[0, 5:], segments[0, 31:], segments[0, 44:] = 2, 3, 0
    segments[1, 26:], segments[1, 27:] = 2, 3
    starts = np.diff(segments, axis=1, prepend=0) != 0
    index = np.arange(SEQ)
    return segments, (index - np.maximum.accumulate(np.where(starts, index, 0), axis=1)).astype(np.int32)


def make_call(function, *, window=None, prefix=False, tree=False, **options):
    """`(q, k, v, prefix) -> (a number that depends on all of the output, the output)`."""
    segments, positions = rows_of_documents()
    places, ends = positions + FRONT if prefix else None, None
    if tree:  # the first document is continued by the others
        ends = np.where(segments == 1, 3, segments)
        places = np.where(segments > 1, positions + (segments == 1).sum(axis=1, keepdims=True), positions)
    seen, mixed = (segments > 0)[..., None, None], draw(9, ROWS, SEQ, HEADS, DIM)

    def call(q, k, v, front):
        out = function(q, k, v, segments=jnp.asarray(segments), kv_segments=jnp.asarray(segments), start=None,
                       window=window, prefix=front if prefix else None, positions=places, ends=ends, **options)
        out = jnp.where(seen, out, 0)
        return (out * mixed).sum(), out

    return jax.jit(jax.value_and_grad(call, argnums=(0, 1, 2, 3), has_aux=True))


@functools.cache
def inputs(heads=2):
    front = Prefix(draw(3, FRONT, heads, DIM), draw(4, FRONT, heads, DIM))
    return draw(0, ROWS, SEQ, HEADS, DIM), draw(1, ROWS, SEQ, heads, DIM), draw(2, ROWS, SEQ, heads, DIM), front


@pytest.mark.parametrize(("mesh", "case"), [
    *(("ring of 8", case) for case in CASES), *(("every axis", case) for case in ("packed", "tree", "all at once")),
    ("more devices than kv heads", "all at once"),
])  # fmt: skip
def test_values_and_gradients_are_those_of_one_device(mesh, case, monkeypatch):
    monkeypatch.setattr(context_attention, "BLOCK", 5)  # several blocks on a device, the last of them filled up
    (_, wanted), expected = make_call(attend, **CASES[case])(*inputs())
    with jax.set_mesh(make_mesh(**MESHES[mesh])):
        (_, out), found = make_call(attend_ring, **CASES[case])(*inputs())
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=2e-6)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_what_does_not_divide_is_whole_everywhere():
    """One row on two devices for rows; three kv heads on two for heads; an odd part of the sequence."""
    q, k, v = draw(0, 1, 18, 6, DIM), draw(1, 1, 18, 3, DIM), draw(2, 1, 18, 3, DIM)
    segments = jnp.ones((1, 18), jnp.int32)
    options = {"segments": segments, "kv_segments": segments, "window": None, "start": None}
    with jax.set_mesh(make_mesh(2, 1, 2, context=2)):
        assert context_attention.parts(18) == 2 and context_attention.parts(17) == 1
        found = jax.jit(lambda q: attend_ring(q, k, v, **options))(q)
    np.testing.assert_allclose(found, attend(q, k, v, **options), rtol=1e-5, atol=2e-6)
    assert context_attention.parts(18) == 1


def test_kernels_that_see_one_devices_keys_are_refused():
    segments = jnp.ones((ROWS, SEQ), jnp.int32)
    with jax.set_mesh(make_mesh(fsdp=1, context=8)), pytest.raises(UserError, match="attention=cudnn has no form"):
        attend_ring(*inputs()[:3], segments=segments, kv_segments=segments, window=None, kind="cudnn")


def test_every_device_has_as_much_to_do():
    """The queries that a device attends with have as many keys before them as those of any other."""
    with jax.set_mesh(make_mesh(fsdp=1, context=8)):
        swap = jax.shard_map(lambda x: context_attention._exchange(x, 8), in_specs=P(None, "context"),
                             out_specs=P(None, "context"))
        places = np.asarray(jax.jit(swap)(jnp.arange(64)[None])).reshape(8, 8)
        np.testing.assert_array_equal(jax.jit(lambda x: swap(swap(x)))(jnp.arange(64)[None])[0], np.arange(64))
    assert sorted(places.flatten()) == list(range(64)) and places[0].tolist() == [0, 1, 2, 3, 60, 61, 62, 63]
    assert np.ptp((places + 1).sum(axis=1)) == 0


def test_no_array_has_scores_of_more_than_a_block():
    with jax.set_mesh(make_mesh(fsdp=1, context=8)):
        segments = jnp.ones((1, 8192), jnp.int32)
        shape = jax.ShapeDtypeStruct((1, 8192, HEADS, DIM), jnp.float32)
        options = {"segments": segments, "kv_segments": segments, "window": None}
        # In a loop over layers, which masks could be taken out of.
        layers = jax.checkpoint(lambda x, _: (x + attend_ring(x, x, x, **options), None), prevent_cse=False)
        trace = jax.jit(jax.grad(lambda x: jax.lax.scan(layers, x, length=3)[0].sum())).trace(shape)
        # 2 products forward, twice, and 5 backward, of half of all pairs, which is what is before the diagonal.
        assert count_products(trace.jaxpr) == 3 * 9 * 2 * 8192**2 * HEADS * DIM // 2
        compiled = trace.lower().compile()
    program, block = hlo.parse(compiled.as_text()), 4 * HEADS * 512**2
    assert max(hlo.count_bytes(i.shape) for body in program.computations.values() for i in body.values()
               if not i.shape.startswith("(")) <= block  # fmt: skip
    assert compiled.memory_analysis().temp_size_in_bytes < 5 * block
