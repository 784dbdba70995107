"""Numbers that options cannot have."""

import pytest

from jitune.construct.distill import config as configs
from jitune.construct.distill import ranges, table
from jitune.types import UserError
from tests.construct.distill.made import config


@pytest.mark.parametrize("option, value, said", [
    ("respond__temperature", -1.0, "0 or more"), ("respond__temperature", float("nan"), "0 or more"),
    ("respond__task_temperature", float("inf"), "0 or more"), ("respond__top_p", 0.0, "above 0 and at most 1"),
    ("alpaca__top_p", 1.5, "above 0 and at most 1"), ("respond__top_k", -1, "0 or more"),
    ("respond__max_tokens", 0, "at least 1"), ("self_instruct__label_tokens", 0, "at least 1"),
    ("self_instruct__requests", 0, "at least 1"), ("alpaca__requests", -1, "at least 1"),
    ("self_instruct__machine", -1, "0 or more"), ("self_instruct__instance_presence_penalty", float("inf"), "finite"),
])
def test_a_number_out_of_range_is_refused_before_anything_is_read(tmp_path, option, value, said):
    method, _, name = option.partition("__")
    with pytest.raises(UserError, match=f"config.{method}.{name}={value} must be .*{said}"):
        configs.check(config(method, tmp_path / "out", **{option: value}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", table.METHODS)
def test_defaults_are_in_range(method):
    ranges.check(table.load(method).defaults(), method)


def test_what_has_no_rule_is_not_looked_at():
    ranges.check({"judge": -3, "top_p": "high", "keep_tokens": True, "threshold": 2.0}, "mine")
