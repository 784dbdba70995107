"""Reading compiled programs: loops, slices, collectives, bytes, by hand and against meshes of known bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jitune import sharding
from jitune.planning import hlo
from jitune.planning.collectives import SCATTERED, by_kind, count_devices, find_collectives
from jitune.planning.count import count_products

pytestmark = pytest.mark.core

# Two loops, one of a written and one of an unwritten length; the outer runs 3 times, the inner 5 times in each.
BY_HAND = """\
HloModule jit_step, is_scheduled=true, num_partitions=8

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%take (p: f32[8,16], i: s32[]) -> f32[1,16] {
  %p = f32[8,16]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %z = s32[] constant(0)
  %s = f32[1,16]{1,0} dynamic-slice(%p, %i, %z), dynamic_slice_sizes={1,16}
  ROOT %n = f32[1,16]{1,0} negate(%s)
}

%inner_body (t: (s32[], bf16[4,6])) -> (s32[], bf16[4,6]) {
  %t = (s32[], bf16[4,6]{1,0:T(8,128)(2,1)}) parameter(0)
  %x = bf16[4,6]{1,0} get-tuple-element(%t), index=1
  %n = s32[] get-tuple-element(%t), index=0
  %ar = bf16[4,6]{1,0} all-reduce(%x), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%sum
  ROOT %r = (s32[], /*index=1*/bf16[4,6]{1,0}) tuple(%n, %ar)
}

%inner_condition (t.1: (s32[], bf16[4,6])) -> pred[] {
  %t.1 = (s32[], bf16[4,6]{1,0}) parameter(0)
  %n.1 = s32[] get-tuple-element(%t.1), index=0
  %five = s32[] constant(5)
  ROOT %less = pred[] compare(%n.1, %five), direction=LT
}

%outer_body (u: (s32[], bf16[4,6])) -> (s32[], bf16[4,6]) {
  %u = (s32[], bf16[4,6]{1,0}) parameter(0)
  %start = (f32[2,8], f32[16,8]) all-gather-start(%w), replica_groups=[1,8]<=[8], dimensions={0}
  %w = f32[2,8]{1,0} constant({...})
  %done = f32[16,8]{1,0} all-gather-done(%start)
  ROOT %while.1 = (s32[], bf16[4,6]{1,0}) while(%u), condition=%inner_condition, body=%inner_body
}

ENTRY %main (q: (s32[], bf16[4,6]), m: f32[8,16]) -> f32[1,16] {
  %q = (s32[], bf16[4,6]{1,0}) parameter(0)
  %m = f32[8,16]{1,0} parameter(1)
  %k = s32[] constant(2)
  %pair = (f32[8,16]{1,0}, f32[64]{0}) all-reduce(%m, %v), replica_groups={}, to_apply=%sum
  %v = f32[64]{0} constant({...})
  %first = f32[8,16]{1,0} get-tuple-element(%pair), index=0
  %second = f32[64]{0} get-tuple-element(%pair), index=1
  %while.0 = (s32[], bf16[4,6]{1,0}) while(%q), condition=%inner_condition, body=%outer_body, \
backend_config={"known_trip_count":{"n":"3"}}
  %permuted = f32[64]{0} collective-permute(%second), source_target_pairs={{0,1},{1,0}}
  %alone = f32[64]{0} all-reduce(%permuted), replica_groups={{0},{1}}, to_apply=%sum
  ROOT %fused = f32[1,16]{1,0} fusion(%first, %k), kind=kLoop, calls=%take
}
"""


def test_by_hand():
    program = hlo.parse(BY_HAND)
    assert program.entry == "main" and len(program.computations) == 6
    found = {(c.kind, c.devices): c for c in find_collectives(program)}
    assert set(found) == {("all-reduce", 4), ("all-gather", 8), ("all-reduce", 8), (SCATTERED, 8),
                          ("collective-permute", 2)}
    inner = found["all-reduce", 4]  # 3 x 5 runs of 4 x 6 bfloat16: a ring sends 2 x 3/4 of 48 bytes
    assert (inner.count, inner.payload, inner.moved) == (15, 48, 15 * 72)
    gather = found["all-gather", 8]  # 3 runs of 8 parts of 2 x 8 float32
    assert (gather.count, gather.payload, gather.moved) == (3, 512, 3 * 448)
    assert found[SCATTERED, 8].payload == 512 and found[SCATTERED, 8].moved == 448  # only a slice of it is taken
    assert found["all-reduce", 8].payload == 256 and found["all-reduce", 8].moved == 448
    assert found["collective-permute", 2].moved == 256


def test_bytes_and_groups():
    assert hlo.count_bytes("(f32[2,3]{1,0}, /*index=1*/bf16[4]{0}, pred[3], s4[3], f8e4m3fn[5], token[])") == 42
    assert hlo.count_bytes("f32[]") == 4

    def devices(attributes, header="num_partitions=6, replica_count=2"):
        return count_devices(hlo.Instruction("a", "f32[]", "all-reduce", (), "", attributes, False), header)

    assert devices("replica_groups={{0,1,2},{3,4,5}}") == 3
    assert devices("replica_groups=[2,4]<=[2,4]T(1,0)") == 4
    assert devices("replica_groups=mesh['a'=2,'b'=8] {'b'}, dimensions={0}") == 8
    assert devices("replica_groups=mesh['a'=2,'b'=8] {'a','b'}, dimensions={0}") == 16
    assert devices("replica_groups=mesh['a'=2,'b'=8] {'b':(2)4}, dimensions={0}") == 4
    assert devices("replica_groups={}") == 12
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("HloModule nothing\n")


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(1, 4, 2)


def compile_on(mesh, function, *arguments, out=None):
    """arguments: (shape, spec) pairs of float32."""
    placed = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec)) for shape, spec in arguments]
    jitted = jax.jit(function, out_shardings=NamedSharding(mesh, out) if out is not None else None)
    return hlo.parse(jitted.lower(*placed).compile().as_text())


def test_weights_gathered_in_a_scan(mesh):
    """Layers of 64 x 64 that lie in quarters are gathered one by one: 6 x 16 KiB, of which 3/4 are sent."""

    def run(x, layers):
        def body(x, w):
            return jnp.tanh(x @ jax.lax.with_sharding_constraint(w, NamedSharding(mesh, P()))), None

        return jax.lax.scan(body, x, layers)[0]

    program = compile_on(mesh, run, ((8, 64), P("fsdp")), ((6, 64, 64), P(None, "fsdp")))
    (gather,) = [c for c in find_collectives(program) if c.kind == "all-gather"]
    assert (gather.devices, gather.count, gather.payload) == (4, 6, 64 * 64 * 4)
    assert gather.moved == 6 * 64 * 64 * 3


def test_a_gradient_is_reduced_and_sliced(mesh):
    """The gradient of a weight in quarters, over rows in quarters: each device takes its quarter of the sum."""
    program = compile_on(
        mesh, lambda x, w: jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w)))(w),
        ((32, 64), P("fsdp")), ((64, 128), P("fsdp")), out=P("fsdp"),
    )
    found = {c.kind: c for c in find_collectives(program) if c.payload > 1000}
    assert found["all-gather"].moved == 64 * 128 * 3
    reduced = found.get(SCATTERED) or found["reduce-scatter"]
    assert reduced.payload == 64 * 128 * 4 and reduced.moved == 64 * 128 * 3


def test_kinds_are_added_up(mesh):
    program = compile_on(mesh, lambda x: (x.sum(), (x * x).max()), ((32, 64), P("fsdp", "tensor")))
    found = find_collectives(program)
    assert sum(c.moved for c in by_kind(found)) == sum(c.moved for c in found) > 0
    assert sum(c.count for c in by_kind(found)) == sum(c.count for c in found)


def test_traffic():
    """A product of [256, 256] matrices reads two and writes one; in a scan each layer is read once."""
    size = 256 * 256 * 4
    one = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    many = jax.ShapeDtypeStruct((16, 256, 256), jnp.float32)
    single = hlo.count_traffic(hlo.parse(jax.jit(jnp.matmul).lower(one, one).compile().as_text()))
    assert single == 3 * size
    scan = jax.jit(lambda x, ws: jax.lax.scan(lambda x, w: (x @ w, None), x, ws)[0])
    looped = hlo.count_traffic(hlo.parse(scan.lower(one, many).compile().as_text()))
    # Three of each product; XLA:CPU copies a layer out of the stack first (2) and the carry (2), and once the result.
    # The whole stack, read for every layer, would be 16 * 16.
    assert 16 * 3 * size <= looped <= 16 * 7 * size + 3 * size


def test_products_in_a_jaxpr():
    x, w = np.ones((4, 8), np.float32), np.ones((5, 8, 8), np.float32)

    def run(x, w):
        y = jax.lax.scan(jax.checkpoint(lambda x, w: (x @ w, None)), x, w)[0]
        return jax.lax.cond(y.sum() > 0, lambda: (y @ y.T).sum(), lambda: y.sum())

    layer = 2 * 4 * 8 * 8
    assert count_products(jax.make_jaxpr(run)(x, w)) == 5 * layer + 2 * 4 * 8 * 4
    # Backward: the product again (checkpoint), and two for the gradients of its two factors.
    both = jax.make_jaxpr(jax.grad(lambda x, w: jnp.tanh(run(x, w)), (0, 1)))(x, w)
    assert count_products(both) >= 5 * 3 * layer
    with pytest.raises(NotImplementedError, match="convolutions"):
        count_products(jax.make_jaxpr(lambda x: jnp.convolve(x, x))(np.ones(8, np.float32)))
