"""What a transform cannot do it refuses in one line: what was given, where, and the way out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jitune.transforms import chain, dora, for_function, freeze, lora, quantize, select, tokens
from jitune.types import UserError
from tests.transforms import zoo
from tests.transforms.test_table import start

pytestmark = pytest.mark.core
X = zoo.x_of()[0]
# What models do with a weight that no structured weight can follow: {primitive: function(w, v, x)}.
DENSE = {
    "sin": lambda w, v, x: x @ jnp.sin(w),
    "mul": lambda w, v, x: x @ (w * w),
    "reduce_sum": lambda w, v, x: x * w.sum(),
    "add": lambda w, v, x: x @ (w + 1),
    "sub": lambda w, v, x: x @ (w - 1),
    "concatenate": lambda w, v, x: x @ jnp.concatenate([w, v], axis=1),
    "dot_general": lambda w, v, x: x @ (w @ v),
    "sort": lambda w, v, x: x @ jnp.sort(w, axis=0),
    "gather": lambda w, v, x: x[:, :3] @ w[jnp.array([0, 1, 2]), jnp.array([1, 2, 3])][:, None],
    "reshape": lambda w, v, x: x[:, :4] @ w.reshape(4, 16),
    "scan": lambda w, v, x: jax.lax.scan(lambda c, row: (c + row, None), x[0], w)[0],
}


def params():
    return zoo.arrays(w_kernel=(8, 8), v_kernel=(8, 8))


def under(transform, function):
    """(the model under a transform, the one with merged weights), as functions without arguments."""
    pair = start(transform, params())

    def call(p, x):
        return function(p["w_kernel"], p["v_kernel"], x)

    return lambda: for_function(transform, call)(pair, X), lambda: call(transform.merge(*pair), X)


@pytest.mark.parametrize("make", [lora, dora], ids=["lora", "dora"])
@pytest.mark.parametrize("name", DENSE)
def test_an_operation_without_a_rule_is_refused_and_merged_where_it_was_asked_for(name, make):
    run, _ = under(make(2, 3), DENSE[name])
    with pytest.raises(UserError) as refusal:
        run()
    text = str(refusal.value)
    asked = text.split("merge_at=")[1].split(":")[0]
    assert asked == name and f"{asked!r}" in text
    assert text.startswith("w_kernel: ") and f"merge_at={asked}:w_kernel" in text and "\n" not in text
    run, merged = under(make(2, 3, merge_at=[(asked, "kernel$")]), DENSE[name])
    np.testing.assert_allclose(run(), merged(), rtol=1e-5, atol=1e-5)
    for elsewhere in ((asked, "^other"), (asked[:-1], "w_kernel")):
        with pytest.raises(UserError, match="w_kernel: the model puts this weight through"):
            under(make(2, 3, merge_at=[elsewhere]), DENSE[name])[0]()


def test_quantized_weights_are_not_made_dense_in_silence():
    run, _ = under(quantize("int8"), DENSE["sin"])
    with pytest.raises(UserError, match="w_kernel: .* 'sin'.*merge_at=sin:w_kernel"):
        run()
    run, merged = under(quantize("int8", merge_at=[("sin", "w")]), DENSE["sin"])
    np.testing.assert_allclose(run(), merged(), rtol=1e-5)
    run, _ = under(quantize("int8"), lambda w, v, x: x[:, :2] @ jnp.take(w, jnp.array([1, 3]), axis=1).T)
    with pytest.raises(UserError, match="w_kernel: .* 'gather'"):
        run()


def test_one_weight_may_be_merged_and_another_not():
    def function(w, v, x):
        return x @ jnp.sin(w) + x @ jnp.sin(v)

    with pytest.raises(UserError, match="^v_kernel"):
        under(lora(2, 3, merge_at=[("sin", "w_kernel")]), function)[0]()


def test_what_is_left_alone_is_free():
    run, merged = under(lora(2, 3, select="w_"), lambda w, v, x: x @ w @ jnp.sin(v))
    np.testing.assert_allclose(run(), merged(), rtol=1e-5, atol=1e-5)


ATTENTION = ["attention/key/kernel", "attention/query/kernel", "attention/value/kernel"]
REFUSED = {
    "nothing matches": (lambda: lora(2, 3, select="qery/kernel"),
                        "lora: pattern 'qery/kernel' matched no weights; the nearest are attention/query/kernel"),
    "nothing matches dora": (lambda: dora(2, 3, select="qery/kernel"), "dora: pattern 'qery/kernel' matched no"),
    "nothing matches select": (lambda: select("qery/kernel"), "select: pattern 'qery/kernel' matched no"),
    "nothing matches freeze": (lambda: freeze("qery/kernel"), "freeze: pattern 'qery/kernel' matched no"),
    "nothing matches quantize": (lambda: quantize("nf4", select="qery"), "quantize: pattern 'qery' matched no"),
    "no rank pattern": (lambda: lora(2, 3, rank_pattern={"qery": 3}), "rank_pattern.*: pattern 'qery' matched no"),
    "rank 0": (lambda: lora(0, 3), "lora: rank=0 must be at least 1"),
    "rank 0 of one": (lambda: lora(2, 3, rank_pattern={"query": 0}),
                      "lora: rank=0 of attention/query/kernel: it must be between 1 and 8"),
    "rank above": (lambda: lora(9, 3), r"lora: rank=9 of attention/key/kernel: it must be between 1 and 8, for the "
                                       "weight has 8 inputs and 8 outputs"),
    "bias": (lambda: lora(2, 3, select="out/bias"), r"lora: attention/out/bias has the shape \(8,\).*leave it out"),
    "init": (lambda: lora(2, 3, init="zeros"), "lora: init='zeros' is not known; known are kaiming, gaussian, pissa"),
    "dropout": (lambda: lora(2, 3, dropout=1.0), "lora: dropout=1.0 must be at least 0 and below 1"),
    "layout": (lambda: lora(2, 3, layouts={"query": "oii"}), "lora: layout 'oii' of attention/query/kernel"),
    "train codes": (lambda: chain(quantize("nf4"), select("query/kernel")),
                    "select: attention/query/kernel is not a plain weight .*quantized.*cannot be trained"),
    "quantize later": (lambda: chain(lora(2, 3), quantize("nf4")),
                       "quantize: attention/key/kernel is changed by a transform already; quantize comes first"),
    "quantize others later": (lambda: chain(lora(2, 3, select="query/kernel"), quantize("nf4", select="out/kernel")),
                              "chain: a transform changes attention/out/kernel itself, as quantize does.*first"),
    "quantize bias": (lambda: quantize("nf4", select="out/bias"), "quantize: attention/out/bias has the shape"),
    "kind": (lambda: quantize("fp3"), "quantize: 'fp3' is not known; known are nf4, int8"),
    "block": (lambda: quantize("nf4", block=3), "quantize: block=3 must be a positive even number"),
    "all frozen": (lambda: freeze("."), "freeze: pattern '.' matched every weight"),
    "no ids": (lambda: tokens([]), "tokens: ids .*each once, are needed"),
    "twice": (lambda: tokens([1, 1]), "tokens: ids .*each once, are needed"),
    "no table": (lambda: tokens([1]), "tokens: no weight has a row for each token; name it in tables"),
    "not a token": (lambda: tokens([99], tables={"query/kernel": 0}), "tokens: id 99 is not among the 8 tokens of"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused(case):
    make, text = REFUSED[case]
    given = {"attention": zoo.modules()["attention"][0]}
    with pytest.raises(UserError, match=text) as refusal:
        jax.eval_shape(make().init, jax.random.key(0), given)
    assert "\n" not in str(refusal.value)


def test_the_nearest_paths_are_named():
    with pytest.raises(UserError) as refusal:
        lora(2, 3, select="qery/kernel").init(jax.random.key(0), {"attention": zoo.modules()["attention"][0]})
    assert str(refusal.value).count("attention/") == 3


def test_a_bias_of_two_axes_is_refused_where_it_is_added():
    p, function = zoo.modules()["attention"]
    transform = lora(2, 3, select="query/bias")
    with pytest.raises(UserError, match="query/bias: .*'add'"):
        for_function(transform, function)(start(transform, p), zoo.x_of())
