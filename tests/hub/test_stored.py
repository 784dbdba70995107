"""Checkpoints whose layout is not the parameters': fused, stored [in, out], one tensor an expert, another prefix."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jitune import tree
from jitune.hub import adapter, files, peft, stored, weights
from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.models.names import Stored, names
from jitune.sharding import make_mesh
from jitune.transforms.chain import chain
from jitune.transforms.dora import dora
from jitune.transforms.lora import lora
from jitune.transforms.partial import select
from jitune.types import Pretrained, UserError

LAYER = "transformer.h.{i}."
# A made-up family over the shapes of a tiny Llama: what Phi-3 and GPT-2 do, in one.
FUSED = {
    "embed/embedding": Stored("transformer.wte.weight", False),
    "layers/attn_norm/scale": Stored(LAYER + "ln_1.weight", False),
    "layers/mlp_norm/scale": Stored(LAYER + "ln_2.weight", False),
    "layers/attn/q_proj/kernel": Stored(LAYER + "attn.c_attn.weight", False, (0, 64)),
    "layers/attn/k_proj/kernel": Stored(LAYER + "attn.c_attn.weight", False, (64, 32)),
    "layers/attn/v_proj/kernel": Stored(LAYER + "attn.c_attn.weight", False, (96, 32)),
    "layers/attn/o_proj/kernel": Stored(LAYER + "attn.c_proj.weight", False),
    "layers/attn/q_proj/bias": Stored(LAYER + "attn.c_attn.bias", False, (0, 64)),
    "layers/attn/k_proj/bias": Stored(LAYER + "attn.c_attn.bias", False, (64, 32)),
    "layers/attn/v_proj/bias": Stored(LAYER + "attn.c_attn.bias", False, (96, 32)),
    "layers/mlp/gate_proj/kernel": Stored(LAYER + "mlp.gate_up_proj.weight", True, (0, 192)),
    "layers/mlp/up_proj/kernel": Stored(LAYER + "mlp.gate_up_proj.weight", True, (192, 192)),
    "layers/mlp/down_proj/kernel": Stored(LAYER + "mlp.down_proj.weight", True),
    "norm/scale": Stored("transformer.ln_f.weight", False),
    "lm_head/kernel": Stored("lm_head.weight", True),
}


@pytest.fixture(scope="module")
def model():
    """The config of a tiny Qwen2 and parameters of it: no two numbers are equal."""
    sizes = {**FAMILIES["qwen2"].presets["tiny"], "vocab_size": 96, "tie_word_embeddings": False}
    config = ModelConfig.from_hf({"model_type": "qwen2", **sizes})
    leaves = tree.flatten(jax.tree.map(lambda x: x.shape, weights.abstract_params(config),
                                       is_leaf=lambda x: hasattr(x, "shape")), lambda x: isinstance(x, tuple))
    rng = np.random.default_rng(0)
    return config, tree.unflatten({p: rng.normal(size=shape).astype(np.float32) for p, shape in leaves.items()})


@pytest.fixture
def fused(monkeypatch):
    """The table of the made-up family in the place of the config's own."""
    monkeypatch.setattr(weights, "name_table", lambda config: FUSED)


def test_fused_tensors_hold_their_parts_end_to_end(model, fused):
    config, params = model
    tensors = dict(weights.export_tensors(params, config))
    attn, mlp = params["layers"]["attn"], params["layers"]["mlp"]
    fused = tensors["transformer.h.1.attn.c_attn.weight"]
    assert fused.shape == (64, 128)
    np.testing.assert_array_equal(fused[:, 64:96], attn["k_proj"]["kernel"][1])
    np.testing.assert_array_equal(tensors["transformer.h.0.attn.c_attn.bias"][96:], attn["v_proj"]["bias"][0])
    gates = tensors["transformer.h.1.mlp.gate_up_proj.weight"]
    assert gates.shape == (384, 64)
    np.testing.assert_array_equal(gates[192:], mlp["up_proj"]["kernel"][1].T)
    assert len(tensors) == 3 + 2 * 7


@pytest.mark.parametrize("mesh", [(1, 1, 1), (1, 2, 4)])
def test_fused_tensors_come_back_on_any_mesh(mesh, model, fused, tmp_path):
    config, params = model
    files.write_shards(tmp_path, weights.export_tensors(params, config), 50_000)
    data, fsdp, tensor = mesh
    devices = jax.devices()[: data * fsdp * tensor]
    loaded = weights.load_params(tmp_path, config, make_mesh(data, fsdp, tensor, devices=devices))
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_faults_of_fused_tensors_are_told_by_their_names_on_disk(model, fused, tmp_path):
    config, params = model
    tensors = {n: np.ascontiguousarray(x) for n, x in weights.export_tensors(params, config)}

    def load(changes):
        save_file({n: x for n, x in {**tensors, **changes}.items() if x is not None}, tmp_path / files.SINGLE)
        return weights.load_params(tmp_path, config, None)

    name = "transformer.h.1.attn.c_attn.weight"
    with pytest.raises(UserError, match=rf"missing tensors: {name}$"):
        load({name: None})
    with pytest.raises(UserError, match=rf"{name} has shape \(64, 127\), the config asks for \(64, 128\)"):
        load({name: tensors[name][:, 1:].copy()})
    with pytest.raises(UserError, match=r"extra tensors: transformer.h.1.attn.q_proj.weight"):
        load({"transformer.h.1.attn.q_proj.weight": tensors[name]})


def test_a_part_of_a_fused_tensor_is_not_saved_alone(model, fused):
    config, params = model
    attn = {"q_proj": params["layers"]["attn"]["q_proj"]}
    with pytest.raises(UserError, match="c_attn.bias holds layers/attn/q_proj/bias, .*missing: .*v_proj/bias"):
        dict(weights.export_tensors({"layers": {"attn": attn}}, config))
    table = {**FUSED, "layers/attn/v_proj/kernel": FUSED["layers/attn/v_proj/kernel"]._replace(rows=(100, 32))}
    with pytest.raises(UserError, match="do not lie end to end"):
        stored.groups(table, FUSED)


@pytest.mark.parametrize(("family", "prefix", "head"), [
    ("qwen2", "", "lm_head.weight"),
    ("qwen2", "language_model.model.", "language_model.lm_head.weight"),
    ("qwen2", "model.language_model.", "lm_head.weight"),
])  # fmt: skip
def test_modules_with_another_prefix(family, prefix, head, model, tmp_path, monkeypatch):
    config, params = model
    tensors = {}
    for name, array in weights.export_tensors(params, config):
        name = prefix + name.removeprefix("model.") if name.startswith("model.") else head
        tensors[name] = np.ascontiguousarray(array)
    extra = {"vision_tower.embeddings.weight": np.ones(3, np.float32)}
    save_file(tensors | extra, tmp_path / files.SINGLE)
    with pytest.raises(UserError, match="extra tensors: vision_tower.embeddings.weight"):
        weights.load_params(tmp_path, config, None)
    monkeypatch.setattr(weights, "ignored", lambda config: r"^vision_tower\.")
    jax.tree.map(np.testing.assert_array_equal, weights.load_params(tmp_path, config, None), params)
    one = f"{prefix}layers.1.mlp.up_proj.weight"
    save_file({n: x for n, x in tensors.items() if n != one}, tmp_path / files.SINGLE)
    with pytest.raises(UserError, match=f"missing tensors: {one}$"):
        weights.load_params(tmp_path, config, None)


def test_experts_lie_apart_and_come_back_stacked(tmp_path):
    table = {
        "layers/mlp/experts/up_proj/kernel": Stored("model.layers.{i}.mlp.experts.{e}.up_proj.weight", True),
        "layers/mlp/router/kernel": Stored("model.layers.{i}.mlp.gate.weight", True),
    }
    rng = np.random.default_rng(0)
    params = {"layers": {"mlp": {"experts": {"up_proj": {"kernel": rng.normal(size=(2, 4, 8, 6)).astype(np.float32)}},
                                 "router": {"kernel": rng.normal(size=(2, 8, 4)).astype(np.float32)}}}}  # fmt: skip
    leaves = tree.flatten(params)
    held = stored.holders(table, {p: x.shape for p, x in leaves.items()})
    assert held["model.layers.1.mlp.experts.3.up_proj.weight"].shape == (6, 8) and len(held) == 2 + 8
    save_file({n: np.ascontiguousarray(stored.join(table[h.paths[0]], [leaves[h.paths[0]][h.at]]))
               for n, h in held.items()}, tmp_path / files.SINGLE)  # fmt: skip
    np.testing.assert_array_equal(load_file(tmp_path / files.SINGLE)["model.layers.1.mlp.experts.3.up_proj.weight"],
                                  leaves["layers/mlp/experts/up_proj/kernel"][1, 3].T)  # fmt: skip
    found = files.find_tensors(tmp_path)
    mesh = jax.make_mesh((4, 2), ("expert", "tensor"), devices=jax.devices()[:8])
    for path, leaf in leaves.items():
        source = weights.Source(table[path], {h.at: found[n] for n, h in held.items() if path in h.paths})
        spec = (None, "expert", None, "tensor") if leaf.ndim == 4 else (None, None, None)
        home = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
        np.testing.assert_array_equal(weights._load_leaf(source, leaf, home), leaf)


def test_the_table_of_every_family_joins(model):
    for family, entry in FAMILIES.items():
        config = ModelConfig.from_hf({"model_type": family, "vocab_size": 96, **entry.presets["tiny"]})
        stored.holders(names(config), {p: x.shape for p, x in tree.flatten(weights.abstract_params(config)).items()})


# Adapters of modules that are fused, or stored [in, out].


@pytest.fixture
def fused_names(fused, monkeypatch):
    """The made-up table for adapters too; a key of its own in what is kept by config."""
    monkeypatch.setattr(adapter, "names", lambda config: FUSED)
    adapter.places.cache_clear()
    yield
    adapter.places.cache_clear()


TUNED = {
    "lora": lora(3, 6, select="(q|v|up|down)_proj/kernel", rank_pattern={"v_proj": 2}, alpha_pattern={"v_proj": 4}),
    "rslora": lora(4, 8, select="_proj/kernel", rslora=True),
    "dora": dora(2, 6, select="(q|k|gate|o)_proj/kernel"),
    "saved": chain(lora(2, 6, select="mlp/.*kernel"), select("k_proj/kernel|q_proj/bias")),
}


@pytest.mark.parametrize("case", TUNED)
def test_an_adapter_of_fused_modules_comes_back(case, model, fused_names, tmp_path):
    config, params = model
    pretrained, transform = Pretrained(decoder.build(config), params, None, config), TUNED[case]
    frozen, trainable = transform.init(jax.random.key(0), params)
    rng = np.random.default_rng(1)
    trainable = jax.tree.map(lambda x: x + rng.standard_normal(x.shape, np.float32), trainable)
    peft.save(tmp_path, pretrained, transform, trainable, frozen=frozen)
    names = {n.removeprefix("base_model.model.") for n in load_file(tmp_path / "adapter_model.safetensors")}
    assert "transformer.h.1.mlp.gate_up_proj.lora_B.weight" in names or case == "dora"
    assert ("transformer.h.0.attn.c_attn.weight" in names) == (case == "saved")
    raw = json.loads((tmp_path / "adapter_config.json").read_text())
    assert raw["fan_in_fan_out"] == (case != "saved") and "q_proj" not in str(raw["target_modules"])
    again, extras, arrays = peft.load(tmp_path, pretrained)
    wanted, found = (tree.flatten(t.merge(*pair)) for t, pair in (
        (transform, (frozen, trainable)), (again, (extras, arrays))))  # fmt: skip
    for path, array in wanted.items():
        np.testing.assert_allclose(found[path], array, 1e-6, 1e-6, err_msg=path)
    moved = {p for p in wanted if not np.array_equal(wanted[p], tree.flatten(params)[p])}
    assert moved == {p for p in wanted if not np.allclose(found[p], tree.flatten(params)[p], 1e-5, 1e-5)}
    if case in ("lora", "rslora"):  # each weight has its own factors again
        own = tree.flatten(arrays)
        assert all(np.array_equal(own[path], array) for path, array in tree.flatten(trainable).items())
