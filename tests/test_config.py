"""Config files, overrides, and the errors that name what was meant."""

import pytest

from jitune import config as configs
from jitune.config import from_words
from jitune.types import UserError

pytestmark = pytest.mark.core


def ready():
    config = configs.defaults()
    config.model.path, config.data.train, config.output_dir = "model", "data", "out"
    return config


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("optimizer.learning_rate", "3e-4", 3e-4),
        ("steps", "7", 7),
        ("epochs", "2", 2.0),
        ("data.packing", "false", False),
        ("data.train", "a.json,b.json", "a.json,b.json"),
        ("mesh.fsdp", "-1", -1),
    ],
)
def test_override(name, text, value):
    config = from_words(None, [f"--config.{name}={text}"])
    again = from_words(None, [f"--config.{name}", text])
    assert configs.flatten(config)[name] == configs.flatten(again)[name] == value
    assert type(configs.flatten(config)[name]) is type(value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.learning_rate=1"], "nearest are optimizer.learning_rate"),
        (["--config.optimizer.lr=1"], "no option config.optimizer.lr"),
        (["--config.data.trian=x"], "data.train"),
        (["--config.optimizer=x"], "no option config.optimizer"),
        (["--config.steps=ten"], "type int is needed"),
        (["--config.data.packing=maybe"], "type bool is needed"),
        (["--steps=3"], "options are given as --config.NAME=VALUE"),
        (["--config.steps"], "a value is needed"),
    ],
)
def test_bad_override(words, message):
    with pytest.raises(UserError, match=message):
        from_words(None, words)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.path": ""}, "config.model.path is not set"),
        ({"output_dir": ""}, "config.output_dir is not set"),
        ({"model.remat": "some"}, "known are none, full"),
        ({"optimizer.name": "sgd"}, "known are adamw"),
        ({"transform.name": "partial"}, "known are full"),
        ({"batch_size": 0}, "at least 1"),
        ({"epochs": 0.0}, "must be positive"),
        ({"batch_size": 8, "microbatches": 3}, "does not divide"),
        ({"patience": 2}, "need config.data.eval"),
    ],
)
def test_check_refuses(changes, message):
    config = ready()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        configs.check(config)


def test_json_round_trip_and_ready():
    config = ready()
    configs.check(config)
    assert configs.from_json(configs.to_json(config)) == config


def test_file(tmp_path):
    good = tmp_path / "good.py"
    good.write_text("from jitune.config import defaults\ndef get_config():\n  c = defaults(); c.steps = 5; return c\n")
    assert configs.read(str(good)).steps == 5
    for text, message in (
        ("x = 1", "has no get_config"),
        ("def get_config(): raise RuntimeError('no')", "RuntimeError: no"),
        ("def get_config(:", "SyntaxError"),
        ("from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'stepz': 1})", "are steps"),
        ("from jitune.config import defaults\ndef get_config():\n  c = defaults(); c.stepz = 5; return c\n", "stepz"),
    ):
        bad = tmp_path / "bad.py"
        bad.write_text(text)
        with pytest.raises(UserError, match=message):
            configs.read(str(bad))
    with pytest.raises(UserError, match="no such config file"):
        configs.read(str(tmp_path / "none.py"))
