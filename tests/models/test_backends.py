"""Every backend of attention gives what the plain form gives, or says that it does not; none drops a part of it."""

import warnings
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jitune.models import attention, backends, chunked, decoder, kernels
from jitune.models.attention import attend, attend_chunked, attend_plain
from jitune.models.backends import BACKENDS, form, lacking, refused
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.models.masks import allowed
from jitune.options import CHOICES
from jitune.planning import hlo
from jitune.types import FallsBack, UserError

LENGTH = 150  # more than a block of queries, and no multiple of anything
ATOL = {"float32": 5e-6, "bfloat16": 0.06}
# What calls need: arguments of attend. ends: the first 40 tokens are of the next document too.
CALLS = {
    "segments": {},
    "window": {"window": 37},
    "a window longer than the row": {"window": 999},
    "scale and cap": {"scale": 0.4, "softcap": 1.5},
    "all but a tree": {"window": 37, "scale": 0.4, "softcap": 1.5, "prefix": 3},
    "prefix": {"prefix": 4},
    "tree": {"ends": True, "window": 61},
    "one kv head": {"kv_heads": 1},
    "a kv head a head": {"kv_heads": 4},
}
# Which of them a kernel has no form of, by name; pallas and cudnn refuse caps before that.
FALLS = {"pallas": {"window", "a window longer than the row", "prefix", "tree"},
         "splash": {"all but a tree", "prefix", "tree"}, "tokamax": set()}  # fmt: skip
REFUSES = {"pallas": {"scale and cap", "all but a tree"}}
PLATFORM = {"pallas": "gpu", "splash": "tpu"}


@cache
def inputs(kv_heads=2, dtype="float32"):
    keys, heads = jax.random.split(jax.random.key(0), 3), (4, kv_heads, kv_heads)
    q, k, v = (jax.random.normal(key, (2, LENGTH, n, 8)) for key, n in zip(keys, heads, strict=True))
    q, k, v = (x.astype(jnp.bfloat16).astype(dtype) for x in (q, k, v))  # the same numbers in both
    # Documents and padding behind them; a document, then one that begins as it does where `ends` says so.
    segments = np.stack([np.repeat([1, 2, 3, 0], [70, 9, 60, 11]), np.repeat([1, 2, 3], [40, 50, 60])])
    return q, k, v, jnp.asarray(segments, jnp.int32)


def arrange(options, dtype="float32"):
    """(q, k, v, prefix) and the other arguments of attend."""
    options = dict(options)
    q, k, v, segments = inputs(options.pop("kv_heads", 2), dtype)
    front, ends = options.pop("prefix", 0), options.pop("ends", None)
    given = {"segments": segments, "kv_segments": segments, "start": None, "window": None, **options}
    if front or ends:
        given["positions"] = front + decoder.restart_positions(segments)
    if ends:
        given["ends"] = jnp.where((segments == 1) & (jnp.arange(2)[:, None] == 1), 2, segments)
        shared = given["ends"] != segments  # document 2 of the second row goes on behind its beginning
        given["positions"] += 40 * ((segments == 2) & shared.any(1, keepdims=True))
    prefix = tuple(jax.random.normal(jax.random.key(i), (front, k.shape[2], 8)) for i in (7, 8)) if front else None
    return (q, k, v, prefix), given


def graded(arrays, given, **more):
    """[the result where a document is, the gradients of its sines' sum], float32; compiled."""
    real = (given["segments"] > 0)[:, :, None, None]

    def score(arrays):
        q, k, v, prefix = arrays
        out = attend(q, k, v, prefix=prefix, **given, **more)
        out = jnp.where(real, out.astype(jnp.float32), 0)
        return jnp.sum(jnp.sin(out)), out

    gradients, out = jax.jit(jax.grad(score, has_aux=True))(arrays)
    return [np.asarray(x, np.float32) for x in (out, *jax.tree.leaves(gradients))]


@cache
def expected(name, dtype="float32"):
    return graded(*arrange(CALLS[name], dtype), kind="plain")


def same(found, wanted, dtype="float32"):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=ATOL[dtype] * max(1, np.abs(b).max()), rtol=0)


@pytest.mark.core
@pytest.mark.parametrize(("size", "name"), [*((48, name) for name in CALLS), (256, "all but a tree"), (256, "tree")])
def test_chunks_are_plain_attention(name, size, monkeypatch):
    monkeypatch.setattr(attention, "attend_chunked", partial(attend_chunked, size=size))
    same(graded(*arrange(CALLS[name]), kind="chunked"), expected(name))


@pytest.mark.parametrize("name", CALLS)
def test_blocks_are_plain_attention(name):
    same(graded(*arrange(CALLS[name]), kind="xla"), expected(name))


@pytest.mark.parametrize("kind", ["xla", "chunked", "tokamax"])
def test_bfloat16_is_as_near(kind):
    if kind == "tokamax":
        pytest.importorskip("tokamax")
    found = graded(*arrange(CALLS["scale and cap"], "bfloat16"), kind=kind)
    same(found, expected("scale and cap"), "bfloat16")


def stand_in(kind, monkeypatch):
    """Lets a kernel run on this machine, by the interpreter of Pallas, as if the machine were the kernel's."""
    if kind == "tokamax":
        pytest.importorskip("tokamax")
        return
    backend = BACKENDS[kind]._replace(platform="")
    monkeypatch.setitem(backends.BACKENDS, kind, backend)
    monkeypatch.setattr(kernels, f"attend_{kind}", partial(getattr(kernels, f"attend_{kind}"), interpret=True))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["pallas", "splash", "tokamax"])
def test_a_kernel_is_plain_attention_or_says_that_it_is_not_used(kind, name, monkeypatch):
    stand_in(kind, monkeypatch)
    if name in REFUSES.get(kind, ()):
        with pytest.raises(UserError, match=f"attention={kind} has no soft caps of scores, which this model has"):
            graded(*arrange(CALLS[name]), kind=kind)
        return
    falls = name in FALLS[kind]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", FallsBack)
        found = graded(*arrange(CALLS[name]), kind=kind)
    said = [str(w.message) for w in said if w.category is FallsBack]
    assert bool(said) == falls and all(f"attention={kind} has no " in line for line in said)
    same(found, expected(name))


@pytest.mark.parametrize("kind", ["chunked", "splash", "tokamax"])
def test_a_traced_window_is_each_of_those_that_it_can_be(kind, monkeypatch):
    stand_in(kind, monkeypatch) if kind != "chunked" else None
    (q, k, v, _), given = arrange({})
    given.pop("window")
    run = jax.jit(lambda w: attend(q, k, v, window=w, windows=(0, 5, 37), kind=kind, **given))
    real = np.asarray(given["segments"] > 0)
    for window in (37, 0):
        wanted = attend_plain(q, k, v, allowed(given["segments"], given["segments"], 0, window))
        np.testing.assert_allclose(run(window)[real], wanted[real], atol=5e-6)


def test_a_kernel_runs_on_every_shard_of_a_mesh(monkeypatch):
    stand_in("splash", monkeypatch)
    mesh = jax.make_mesh((2, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        found = graded(*arrange(CALLS["window"]), kind="splash")
    same(found, expected("window"))


def test_chunks_that_nobody_sees_are_left_out():
    """Of 4 x 4 chunks: the diagonal and below; with a window of one chunk, those and one below; documents alone."""
    ones = jnp.ones((1, 64), jnp.int32)

    def live(segments, window):
        seen = chunked.Seen(segments, segments, jnp.asarray(window), None, None)
        return np.asarray(chunked._live(seen, chunked.Rules(16, 1.0, 0.0, 0, ())), int).tolist()

    assert live(ones, 0) == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert live(ones, 16) == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert live(jnp.repeat(jnp.arange(1, 3), 32)[None], 0) == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize(("remat", "scan_layers"), [("none", True), ("dots", True), ("full", False)])
def test_memory_of_chunks_grows_with_the_row(remat, scan_layers):
    """Forward and backward: four times the tokens take four times the largest array, and about that altogether.

    By how temporaries happen to lie beside each other, one doubling may take 2.2 times as much, and the next 2.0 times.
    """
    raw = {"model_type": "llama", **FAMILIES["llama"].presets["tiny"], "vocab_size": 96, "num_hidden_layers": 2}
    config = ModelConfig.from_hf(raw).replace(scan_layers=scan_layers, remat=remat, attention="chunked")
    model = decoder.build(config)
    params = jax.eval_shape(model.init, jax.random.key(0))

    def sizes(length):
        graded = jax.jit(jax.grad(lambda p, ids: model.hidden(p, {"tokens": ids})[0].sum()))
        lowered = graded.lower(params, jax.ShapeDtypeStruct((1, length), jnp.int32))
        compiled = lowered.compile({"xla_backend_optimization_level": 0})
        arrays = (i.shape for body in hlo.parse(compiled.as_text()).computations.values() for i in body.values())
        largest = max(hlo.count_bytes(shape) for shape in arrays if not shape.startswith("("))
        return largest, compiled.memory_analysis().temp_size_in_bytes

    (largest, together), (four_times, all_four_times) = sizes(2048), sizes(8192)
    assert four_times == 4 * largest and all_four_times < 2.2**2 * together


@pytest.mark.core
def test_what_auto_is():
    assert [form("auto", t, "cpu") for t in (512, 1023, 1024, 8192)] == ["xla", "xla", "chunked", "chunked"]
    assert [form("auto", t, "gpu") for t in (1024, 8192, 8193)] == ["xla", "xla", "chunked"]
    assert form("plain", 9999, "cpu") == "plain"


@pytest.mark.core
def test_every_choice_is_known():
    plain_forms = {"auto", "xla", "plain", "blocks", "chunked"}
    assert plain_forms | set(BACKENDS) == set(CHOICES["model.attention"])


@pytest.mark.core
@pytest.mark.parametrize(("kind", "given", "line"), [
    ("cudnn", {"platform": "cpu"}, "attention=cudnn needs an NVIDIA GPU and config.model.dtype=bfloat16, not cpu"),
    ("pallas", {"platform": "gpu", "dtype": "float32"}, "not gpu with float32. auto works everywhere"),
    ("splash", {"platform": "gpu"}, "attention=splash needs a TPU"),
    ("pallas", {"platform": "gpu", "head_dim": 256}, "heads of up to 128 features, a multiple of 8; this model's have"),
    ("cudnn", {"platform": "gpu", "softcap": 50.0}, "no soft caps of scores, which this model has; auto, xla, chunked"),
    ("tokamax", {"platform": "gpu", "dtype": "float32"}, "is exact in config.model.dtype=float32 on a CPU only"),
    ("splash", {"platform": "tpu", "softcap": 50.0}, ""), ("cudnn", {"platform": "gpu", "head_dim": 256}, ""),
    ("chunked", {"platform": "cpu", "dtype": "float32", "softcap": 50.0, "head_dim": 7}, ""),
])  # fmt: skip
def test_what_can_never_run_is_refused(kind, given, line, monkeypatch):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: name)
    found = refused(kind, **{"dtype": "bfloat16", "head_dim": 64, **given})
    assert line in found and bool(line) == bool(found) and "\n" not in found


def test_tokamax_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    (q, k, v, _), given = arrange({})
    with pytest.raises(UserError, match=r"pip install 'jitune\[tokamax\]'"):
        attend(q, k, v, kind="tokamax", **given)


@pytest.mark.core
def test_what_a_kernel_lacks_is_named():
    assert lacking("pallas", {"window", "tree"}) == (
        "has no sliding windows and no documents that share their beginning")
    assert lacking("tokamax", {"window", "tree", "prefix", "traced window"}) == ""
    assert "split over devices" in lacking("splash", {"split"})
