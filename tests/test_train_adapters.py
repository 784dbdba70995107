"""Whole runs of adapters: what is trained and kept, how they resume, what comes out, what stops them."""

import json
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file

import jitune
from jitune import checkpoint, sharding, tree
from jitune import config as configs
from jitune import state as states
from jitune.export import export
from jitune.hub import files, peft, weights
from jitune.train import train
from jitune.types import UserError
from tests.test_train import copy_config, losses_of, rows_of

LORA = {"transform.name": "lora", "transform.rank": 4, "transform.alpha": 8.0, "optimizer.learning_rate": 1e-2}


def run(config, directory, *, resume=False, **changes) -> Path:
    return train(copy_config(config, output_dir=str(directory), **changes), resume=resume)


def kept(directory) -> dict[str, np.ndarray]:
    return load_file(directory / "final" / "adapter_model.safetensors")


@pytest.mark.core
def test_a_run_of_lora_trains_factors_and_leaves_the_base(toy_config, tmp_path, capfd):
    directory = run(toy_config, tmp_path / "run", **LORA, **{"data.eval": toy_config.data.train, "steps": 20})
    said = capfd.readouterr()
    c = weights.read_config(Path(toy_config.model.path))
    wide, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    sizes = [(c.dim, wide), (c.dim, kv), (c.dim, kv), (wide, c.dim), *2 * [(c.dim, c.mlp_dim)], (c.mlp_dim, c.dim)]
    count = c.num_layers * sum(4 * (i + o) for i, o in sizes)
    base = tree.count_params(weights.abstract_params(c))
    text = said.out + said.err
    assert f"training {count:,} of {base + count:,} parameters ({count / (base + count):.2%})" in text
    assert f"optimizer state {2 * 4 * count / 2**20:,.1f} MiB, frozen weights {4 * base / 2**20:,.1f} MiB" in text
    assert losses_of(directory)[-1] < losses_of(directory)[0] - 0.2
    started = json.loads((directory / "startup.json").read_text())
    assert started["trained_parameters"] == count and started["parameters"] == base + count
    factors = kept(directory)
    assert len(factors) == 2 * 7 * c.num_layers and all("lora_" in name for name in factors)
    settings = json.loads((directory / "final" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["peft_type"]) == (4, 8, "LORA")
    record = json.loads((directory / "final" / "jitune_adapter.json").read_text())
    assert record["base_digest"] == files.digest(Path(toy_config.model.path))
    checkpoints = checkpoint.open_checkpoints(directory / "checkpoints", read_only=True)
    items = {"trainable": ocp.args.StandardRestore(), "rest": ocp.args.StandardRestore()}
    stored = checkpoints.restore(20, args=ocp.args.Composite(**items))
    assert tree.count_params(stored["trainable"]) == count
    assert tree.count_params(stored["rest"]) < 2 * count + 20  # two moments, and counters
    assert json.loads((directory / "checkpoints" / "20" / "data" / "metadata").read_text())["base"] == \
        record["base_digest"]


def test_the_merged_export_is_the_adapted_model(toy_config, tmp_path):
    directory = run(toy_config, tmp_path / "run", **LORA)
    export(directory, tmp_path / "merged")
    export(directory, tmp_path / "adapter", to="peft")
    base = jitune.load(toy_config.model.path, dtype="float32")
    merged = jitune.load(tmp_path / "merged", dtype="float32")
    tokens = np.random.default_rng(0).integers(0, base.config.vocab_size, (2, 24))
    wanted = jitune.logits(merged.model, merged.params, tokens)
    assert np.abs(jitune.logits(base.model, base.params, tokens) - wanted).max() > 1e-2
    for place in (directory / "final", tmp_path / "adapter"):
        transform, frozen, trainable = peft.load(place, base, base=toy_config.model.path)
        found = jitune.logits(transform.apply(base.model), (frozen, trainable), tokens)
        np.testing.assert_allclose(found, wanted, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("changes", [
    {**LORA, "transform.dropout": 0.3, "transform.train": "norm/scale", "optimizer.lora_plus": 4.0,
     "transform.quantize": "nf4"},
    {"transform.name": "prefix", "transform.num_tokens": 4, "transform.init": "text",
     "transform.init_text": "The house is red."},
], ids=["qlora", "prefix"])  # fmt: skip
def test_a_resumed_run_ends_with_the_same_bits(toy_config, tmp_path, changes):
    straight = run(toy_config, tmp_path / "straight", **changes)
    run(toy_config, tmp_path / "halves", **changes, steps=7)
    halves = run(toy_config, tmp_path / "halves", **changes, resume=True)
    assert losses_of(straight) == losses_of(halves) and len(losses_of(straight)) == 12
    first, second = kept(straight), kept(halves)
    assert first.keys() == second.keys() and all(np.array_equal(first[n], second[n]) for n in first)


def test_every_mesh_gives_one_devices_losses(toy_config, tmp_path):
    losses = []
    for i, mesh in enumerate([(8, 1, 1, 1), (1, 2, 2, 2)]):
        sizes = dict(zip(("mesh.data", "mesh.fsdp", "mesh.context", "mesh.tensor"), mesh, strict=True))
        losses.append(losses_of(run(toy_config, tmp_path / str(i), **LORA, **sizes, steps=4, **{
            "transform.quantize": "nf4"})))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_added_tokens_are_learned_and_nothing_else_of_the_embedding(toy_config, tmp_path):
    changes = {**LORA, "data.add_tokens": "<tool>,<end>"}
    rows = [json.loads(line) for line in Path(toy_config.data.train).read_text().splitlines()]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({**r, "output": f"<tool>{r['output']}<end>"}) + "\n" for r in rows))
    directory = run(toy_config, tmp_path / "run", **changes, **{"data.train": str(data)})
    old = weights.read_config(Path(toy_config.model.path)).vocab_size
    delta = [x for n, x in kept(directory).items() if n.endswith("trainable_tokens_delta")]
    assert [x.shape[0] for x in delta] == [2]  # the head is the embedding
    export(directory, tmp_path / "merged")
    base, merged = (jitune.load(p, dtype="float32") for p in (toy_config.model.path, tmp_path / "merged"))
    before, after = base.params["embed"]["embedding"], merged.params["embed"]["embedding"]
    assert after.shape[0] == old + 2 == len(merged.tokenizer) and np.array_equal(after[:old], before)
    assert np.abs(after[old] - after[old + 1]).max() > 1e-3
    assert merged.tokenizer.convert_tokens_to_ids("<end>") == old + 1


@pytest.mark.core
def test_quantized_bases_rest_in_few_bits(toy_config):
    config = copy_config(toy_config, **LORA, **{
        "transform.quantize": "nf4", "transform.quantize_select": "kernel|embedding", "model.dtype": "bfloat16"})
    sizes = {"model_type": "llama", "vocab_size": 4096, "hidden_size": 512, "intermediate_size": 1408,
             "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
             "rms_norm_eps": 1e-6}  # fmt: skip
    from jitune.models.config import ModelConfig

    model_config = ModelConfig.from_hf(sizes).replace(dtype="bfloat16")
    mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    frozen, _ = states.abstract_weights(states.make_tuning(config, model_config), mesh)
    base = frozen["0"]["base"]
    whole = tree.count_params(weights.abstract_params(model_config))
    assert 4 < 8 * tree.count_bytes(base) / whole <= 4.6


@pytest.mark.core
@pytest.mark.parametrize("changes, message", [
    ({"transform.name": "lora", "transform.select": "attn/query"}, "matched no weights; the nearest are layers/attn"),
    ({"transform.name": "lora", "transform.rank": 0}, "rank=0 must be at least 1"),
    ({"transform.name": "lora", "transform.rank": 33}, "layers/attn/k_proj/kernel: it must be between 1 and 32"),
    ({"transform.name": "lora", "transform.select": "norm"}, "is no matrix; leave it out of select"),
    ({"transform.name": "lora", "transform.rank_pattern": "q_proj:3"}, "pairs such as q_proj=8,v_proj=4"),
    ({"transform.name": "lora", "transform.rank_pattern": "x_proj=3"}, "pattern 'x_proj' matched no weights"),
    ({"transform.name": "lora", "transform.init": "text"}, "init='text' is not known; known are kaiming"),
    ({"transform.name": "lora", "transform.quantize": "nf4", "transform.train": "q_proj"}, "cannot be trained itself"),
    ({"transform.name": "full", "transform.quantize": "nf4"}, "needs a frozen base"),
    ({"transform.name": "select"}, "config.transform.select is not set"),
    ({"transform.name": "lore"}, "known are full, lora, dora"),
    ({"transform.name": "prefix", "transform.init": "text"}, "needs config.transform.init_text"),
    ({"transform.name": "prefix", "transform.num_tokens": 0}, "num_tokens"),
], ids=lambda x: None if isinstance(x, str) else "-".join(map(str, x.values())))  # fmt: skip
def test_what_cannot_work_is_one_line_before_anything_is_made(toy_config, changes, message, monkeypatch):
    def never(*args, **options):
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(weights, "load_params", never)
    with pytest.raises(UserError) as error:
        train(copy_config(toy_config, **changes))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not Path(toy_config.output_dir).exists()


def test_another_base_or_another_rank_is_refused(toy_config, toy_model, tmp_path):
    import shutil

    from jitune.hub import fresh

    base = tmp_path / "base"
    shutil.copytree(toy_model, base)
    directory = run(toy_config, tmp_path / "run", **LORA, **{"model.path": str(base)}, steps=2)
    with pytest.raises(UserError, match="config.transform.rank is 2, the run in .* has 4"):
        run(toy_config, directory, resume=True, **{**LORA, "transform.rank": 2, "model.path": str(base)})
    shutil.rmtree(base)
    fresh.create(base, family="qwen3", preset="tiny", tokenizer_from=str(toy_model), seed=7)
    with pytest.raises(UserError, match="the model is not the one that the run in .* began with"):
        run(toy_config, directory, resume=True, **LORA, **{"model.path": str(base)})
    with pytest.raises(UserError, match="is not the model that the run in .* began with"):
        export(directory, tmp_path / "merged")
    loaded = jitune.load(base, dtype="float32")
    with pytest.raises(UserError, match="was made for another base"):
        peft.load(directory / "final", loaded, base=base)


@pytest.mark.core
def test_options_of_older_runs_get_their_defaults():
    old = json.loads(configs.to_json(configs.defaults()))
    old["transform"] = {"name": "full"}
    assert configs.from_json(json.dumps(old)).transform == configs.defaults().transform


def test_bfloat16_computes_over_a_bfloat16_base_and_float32_factors(toy_config, tmp_path):
    directory = run(toy_config, tmp_path / "run", **LORA, **{"model.dtype": "bfloat16"}, steps=8)
    assert all(x.dtype == np.float32 for x in kept(directory).values())
    assert losses_of(directory)[-1] < losses_of(directory)[0] - 0.05
    assert rows_of(directory)[0]["mfu"] > 0
