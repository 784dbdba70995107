"""Paths, splitting and joining."""

import numpy as np
import pytest

from jitune import tree

pytestmark = pytest.mark.core
PARAMS = {"a": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}, "b": np.ones(1)}


def test_paths():
    assert list(tree.flatten(PARAMS)) == ["a/bias", "a/kernel", "b"]
    assert tree.flatten((PARAMS["b"], {"c": 1})) == {"0": PARAMS["b"], "1/c": 1}


def test_split_and_join_are_inverse():
    kernels, rest = tree.split(PARAMS, lambda path: path.endswith("kernel"))
    assert list(tree.flatten(kernels)) == ["a/kernel"] and list(tree.flatten(rest)) == ["a/bias", "b"]
    joined = tree.join(kernels, rest)
    assert tree.flatten(joined).keys() == tree.flatten(PARAMS).keys()
    with pytest.raises(ValueError, match="both trees hold a/kernel"):
        tree.join(kernels, PARAMS)


def test_counts():
    assert tree.count_params(PARAMS) == 10
    assert tree.count_bytes(PARAMS) == 80


def test_nearest():
    assert tree.nearest("q_porj", ["k_proj", "q_proj", "norm"])[0] == "q_proj"
