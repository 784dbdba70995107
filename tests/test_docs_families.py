"""The page on adding a family is true: its entry, its tables, its list, and the one row of the tests."""

import re
from dataclasses import fields

import pytest

from jitune.models import presets
from jitune.models.families import FAMILIES
from jitune.models.family import Family
from jitune.models.keys import NEUTRAL_KEYS
from jitune.models.rope import KINDS
from tests.references import CONFIGS, _config
from tests.test_docs import page

pytestmark = pytest.mark.core
TEXT = page("adding_a_family")
# Of every config: no difference of a family.
COMMON = {"hidden_act", "rms_norm_eps", "rope_theta", "tie_word_embeddings", "num_key_value_heads", "head_dim",
          "sliding_window", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
          "vocab_size"} | NEUTRAL_KEYS  # fmt: skip


def first_column(text: str) -> set[str]:
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_entry_is_that_of_the_code():
    snippet = re.search(r"```python\n(Family\(.*?)```", TEXT, re.DOTALL)[1]
    assert eval(snippet, {"Family": Family, "presets": presets}) == FAMILIES["olmo2"]


def test_the_row_is_that_of_the_tests():
    snippet = re.search(r'```python\n("olmo2": .*?),\n```', TEXT, re.DOTALL)[1]
    assert eval(f"{{{snippet}}}", {"_config": _config}) == {"olmo2": CONFIGS["olmo2"]}


def test_tables_name_every_difference():
    differences, _, keys = TEXT.partition("Some differences are keys")
    assert first_column(differences) == {f.name for f in fields(Family)} - {"name", "architecture", "defaults"}
    assert first_column(keys) == {key for family in FAMILIES.values() for key in family.defaults} - COMMON


def test_every_family_and_rope_kind_is_named_and_has_its_row():
    assert {raw["model_type"] for raw in CONFIGS.values()} == {*FAMILIES}
    named = set(re.findall(r"`(\w+)`", re.search(r"Known now:.*?\n\n", TEXT, re.DOTALL)[0]))
    assert named == {*FAMILIES} | {family.wrapped_by for family in FAMILIES.values() if family.wrapped_by}
    assert set(re.findall(r"`(\w+)`", re.search(r"Rope kinds are .*? in the old", TEXT, re.DOTALL)[0])) == {*KINDS}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_its_presets(family):
    assert {"tiny", "small"} <= FAMILIES[family].presets.keys()
