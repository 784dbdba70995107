"""Checkpoint directories: both ways bit-exact, and every fault named."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jitune
from jitune import tree
from jitune.hub import files, fresh, weights
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES, NAMES
from jitune.sharding import make_mesh
from jitune.types import Pretrained, UserError


def make_checkpoint(path, family="qwen3", **changes) -> ModelConfig:
    """A checkpoint without a tokenizer, saved in several shards."""
    raw = {"model_type": family, **FAMILIES[family].presets["tiny"], "vocab_size": 96, **changes}
    config = ModelConfig.from_hf(raw)
    params = fresh.init_params(config, seed=1)
    weights.save(path, Pretrained(None, params, None, config), max_shard_bytes=100_000)
    return config


@pytest.mark.core
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "phi3", "gpt2", "qwen2_moe"])  # every layout once
def test_round_trip_is_exact_on_any_mesh(family, tmp_path):
    make_checkpoint(tmp_path / "a", family)
    assert (tmp_path / "a" / files.INDEX).exists()
    loaded = jitune.load(tmp_path / "a", dtype="float32", mesh=make_mesh(data=1, fsdp=4, tensor=2))
    kernel = loaded.params["layers"]["attn"]["q_proj"]["kernel"]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, "fsdp", "tensor")
    assert loaded.tokenizer is None
    jitune.save(tmp_path / "b", loaded)
    assert (tmp_path / "b" / files.SINGLE).exists()
    first = {n: files.read_slice(t, ()) for n, t in files.find_tensors(tmp_path / "a").items()}
    second = load_file(tmp_path / "b" / files.SINGLE)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[n], second[n]) for n in first)
    again = jitune.load(tmp_path / "b", dtype="float32")
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((np.asarray(x) == np.asarray(y)).all()),
                                     again.params, loaded.params))


@pytest.mark.core
def test_save_has_everything_transformers_needs(toy_model, tmp_path):
    loaded = jitune.load(toy_model, dtype="bfloat16")
    jitune.save(tmp_path / "out", loaded)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                     "tokenizer_config.json", "chat_template.jinja"}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and config["architectures"] == ["Qwen3ForCausalLM"]
    with files.open_file(tmp_path / "out" / files.SINGLE) as file:
        assert file.metadata() == {"format": "pt"}
    assert "chat_template" not in json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())


def test_saving_again_replaces_shards_and_keeps_other_files(tmp_path):
    config = make_checkpoint(tmp_path / "m")
    (tmp_path / "m" / "NOTES.md").write_text("mine")
    params = fresh.init_params(config, seed=2)
    weights.save(tmp_path / "m", Pretrained(None, params, None, config))
    names = {p.name for p in (tmp_path / "m").iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors", "NOTES.md"}
    assert {p.name for p in tmp_path.iterdir()} == {"m"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds no checkpoint"):
        weights.save(tmp_path / "other", Pretrained(None, params, None, config))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "m"
    make_checkpoint(path)
    return path


@pytest.fixture
def checkpoint(original, tmp_path):
    """A checkpoint to damage."""
    return shutil.copytree(original, tmp_path / "m")


def rewrite(path, change):
    """Applies `change` to the tensors of a checkpoint and stores them in one file."""
    tensors = {n: files.read_slice(t, ()) for n, t in files.find_tensors(path).items()}
    change(tensors)
    for file in [*path.glob("model*")]:
        file.unlink()
    save_file(tensors, path / files.SINGLE)


def set_config(path, **changes):
    raw = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps(raw))


Q = NAMES["layers/attn/q_proj/kernel"]
FAULTS = {
    "missing tensor": (
        lambda p: rewrite(p, lambda t: t.pop(Q.format(i=1))), rf"missing tensors: {Q.format(i=1)}"),
    "extra tensor": (
        lambda p: rewrite(p, lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(64, np.float32)})),
        "extra tensors: model.layers.0.self_attn.q_proj.bias"),
    "misnamed tensor": (
        lambda p: rewrite(p, lambda t: t.update({"model.norm.weights": t.pop("model.norm.weight")})),
        "missing tensors: model.norm.weight; the file has model.norm.weights"),
    "wrong shape": (
        lambda p: rewrite(p, lambda t: t.update({"model.norm.weight": np.zeros(3, np.float32)})),
        r"model.norm.weight has shape \(3,\), the config asks for \(64,\)"),
    "integers": (
        lambda p: rewrite(p, lambda t: t.update({"model.norm.weight": np.zeros(64, np.int8)})), "dtype I8"),
    "untied head": (
        lambda p: rewrite(p, lambda t: t.update({"lm_head.weight": np.zeros((96, 64), np.float32)})),
        "holds another lm_head"),
    "truncated": (
        lambda p: (f := next(p.glob("model-00001*"))).write_bytes(f.read_bytes()[:-9]), "truncated or corrupt"),
    "empty file": (lambda p: next(p.glob("model-00001*")).write_bytes(b""), "truncated or corrupt"),
    "lost shard": (lambda p: next(p.glob("model-00001*")).unlink(), "no such file"),
    "index outside": (
        lambda p: (p / files.INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "../x.safetensors"}})),
        "points outside its directory"),
    "index is a list": (lambda p: (p / files.INDEX).write_text("[1]"), "a JSON object is needed"),
    "broken index": (lambda p: (p / files.INDEX).write_text("{"), "not readable as JSON"),
    "index of another file": (
        lambda p: (p / files.INDEX).write_text(json.dumps({"weight_map": {
            "nothing.weight": sorted(q.name for q in p.glob("model-*.safetensors"))[0]}})),
        "nothing.weight is not in model-00001"),
    "pickles": (
        lambda p: [f.unlink() for f in p.glob("model*")] and (p / "pytorch_model.bin").write_bytes(b"x"),
        "pickles are never loaded"),
    "no weights": (lambda p: [f.unlink() for f in p.glob("model*")], "has neither model.safetensors"),
    "unknown key": (lambda p: set_config(p, sliding_windw=3), "unknown key 'sliding_windw'.*sliding_window"),
    "unknown family": (lambda p: set_config(p, model_type="falcon"), "'falcon' is not supported; known are llama"),
    "remote code": (lambda p: set_config(p, auto_map={"AutoModel": "x.Y"}), "remote code is never loaded"),
    "quantized": (lambda p: set_config(p, quantization_config={"bits": 4}), "quantized checkpoints"),
    "activation": (lambda p: set_config(p, hidden_act="mish"), "hidden_act='mish' is not supported; known are silu"),
    "dropout": (lambda p: set_config(p, attention_dropout=0.1), "attention_dropout=0.1 is not supported"),
    "rope": (lambda p: set_config(p, rope_scaling={"type": "dynamic", "factor": 2.0}),
             "rope type 'dynamic' is not supported; known are default, linear, llama3, yarn, longrope"),
    "rope key": (lambda p: set_config(p, rope_scaling={"type": "linear", "factor": 2.0, "x": 1}), "not understood: x"),
    "rope incomplete": (lambda p: set_config(p, rope_scaling={"type": "llama3", "factor": 2.0}), "needs 'low_freq"),
    "size": (lambda p: set_config(p, num_hidden_layers="two"), "a positive integer is needed"),
    "heads": (lambda p: set_config(p, num_key_value_heads=3), "4 attention heads do not divide by 3"),
    "config missing": (lambda p: (p / "config.json").unlink(), "config.json: no such file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault, checkpoint):
    damage, message = FAULTS[fault]
    damage(checkpoint)
    with pytest.raises(UserError, match=message) as caught:
        jitune.load(checkpoint, dtype="float32")
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_checkpoint(tmp_path):
    (tmp_path / "model-a").mkdir()
    with pytest.raises(UserError, match="no such checkpoint directory; near it: model-a"):
        jitune.load(tmp_path / "model-b", dtype="float32")
    with pytest.raises(UserError, match="is a file"):
        jitune.load(__file__, dtype="float32")
    with pytest.raises(UserError, match="the hub does not give it"):
        jitune.load("nobody/nothing", dtype="float32")
    with pytest.raises(UserError, match="known are float32, bfloat16"):
        jitune.load(tmp_path / "model-a", dtype="float8")


def test_a_tied_head_that_equals_the_embedding_is_fine(checkpoint):
    rewrite(checkpoint, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"]}))
    assert "lm_head" not in jitune.load(checkpoint, dtype="float32").params


@pytest.mark.core
def test_old_and_new_config_files_mean_the_same():
    sizes = {**FAMILIES["llama"].presets["tiny"], "model_type": "llama", "vocab_size": 96}
    sizes.pop("rope_theta")
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    old = {**sizes, "rope_theta": 5e5, "rope_scaling": {"type": "llama3", **scaling}, "torch_dtype": "bfloat16"}
    new = {**sizes, "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **scaling}, "dtype": "bfloat16"}
    both = {**new, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    configs = [ModelConfig.from_hf(raw) for raw in (old, new, both)]
    assert configs[0].ropes == configs[1].ropes
    (rope,) = configs[2].ropes
    assert rope.kind == "linear" and rope.theta == 5e5


def test_defaults_of_absent_keys():
    sizes = {**FAMILIES["mistral"].presets["tiny"], "model_type": "mistral", "vocab_size": 96}
    sizes.pop("sliding_window")
    assert ModelConfig.from_hf(sizes).windows == (4096, 4096)
    assert ModelConfig.from_hf({**sizes, "sliding_window": None}).windows == (0, 0)
    qwen = {**FAMILIES["qwen2"].presets["tiny"], "model_type": "qwen2", "vocab_size": 96, "sliding_window": 8}
    assert ModelConfig.from_hf(qwen).windows == (0, 0)
    assert ModelConfig.from_hf({**qwen, "use_sliding_window": True, "max_window_layers": 1}).windows == (0, 8)


def test_digest_tells_models_apart(original, checkpoint, tmp_path):
    assert files.digest(original) == files.digest(checkpoint)
    config = weights.read_config(original)
    weights.save(tmp_path / "c", Pretrained(None, fresh.init_params(config, seed=2), None, config))
    assert files.digest(original) != files.digest(tmp_path / "c")


MEASURE = """
import sys, threading, time
import jax
jax.config.update("jax_num_cpu_devices", 4)
from jitune.hub import weights
from jitune.sharding import make_mesh
def anonymous():
    return sum(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(("RssAnon", "RssFile")))
weights.load(sys.argv[2], dtype="float32", mesh=make_mesh(data=1, fsdp=4, tensor=1))  # imports and compilation
before, peak, done = anonymous(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.002)
thread = threading.Thread(target=watch); thread.start()
loaded = weights.load(sys.argv[1], dtype="float32", mesh=make_mesh(data=1, fsdp=4, tensor=1))
done = True; thread.join()
print(peak - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loading_holds_little_more_than_the_shards(tmp_path):
    big = {"vocab_size": 16384, "hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 12}
    make_checkpoint(tmp_path / "small")
    config = make_checkpoint(tmp_path / "big", **big)
    shards = tree.count_bytes(weights.abstract_params(config)) / 1024
    tensor = 16384 * 512 * 4 / 1024
    out = subprocess.run([sys.executable, "-c", MEASURE, tmp_path / "big", tmp_path / "small"], capture_output=True,
                         text=True, check=True)
    above = int(out.stdout) - shards
    assert shards > 300_000
    # A tensor is read shard by shard, each beside its transposed copy.
    print(f"{above:.0f} KiB above {shards:.0f} KiB of shards; the largest tensor has {tensor:.0f} KiB")
    assert above < 2 * tensor
