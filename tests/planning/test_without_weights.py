"""A plan reads a config.json and nothing else: of a directory, and of a hub name."""

import json
from fnmatch import fnmatch

import pytest

from jitune import config as configs
from jitune.hub import files
from jitune.models.families import FAMILIES
from jitune.planning.plan import read_model
from jitune.types import UserError

RAW = {"model_type": "llama", **FAMILIES["llama"].presets["70b"]}


def config_of(path):
    config = configs.defaults()
    config.model.path = str(path)
    return config


@pytest.mark.core
def test_a_directory_with_a_config_alone(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(RAW))
    found = read_model(config_of(tmp_path), None, None)
    assert (found.num_layers, found.dim, found.vocab_size) == (80, 8192, 128256)
    with pytest.raises(UserError, match="has neither model.safetensors nor"):
        files.find_tensors(tmp_path)


@pytest.mark.core
def test_of_a_hub_name_only_json_is_asked_for(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        (tmp_path / "config.json").write_text(json.dumps(RAW))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert read_model(config_of("org/llama-70b"), None, None).num_layers == 80
    ((name, patterns),) = asked
    assert name == "org/llama-70b"
    there = ["config.json", "generation_config.json", "model-00001-of-00030.safetensors", "pytorch_model.bin"]
    assert [n for n in there if any(fnmatch(n, p) for p in patterns)] == ["config.json", "generation_config.json"]
