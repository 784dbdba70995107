"""Adapters on disk: both ways without a loss, every fault named, and the form that vLLM serves."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jitune
from jitune import tree
from jitune.export import fold
from jitune.hub import adapter, peft, peft_config
from jitune.sharding import make_mesh
from jitune.transforms.chain import chain
from jitune.transforms.dora import dora
from jitune.transforms.full import full
from jitune.transforms.lora import lora
from jitune.transforms.partial import select
from jitune.transforms.prefix import prefix
from jitune.transforms.prompt import prompt
from jitune.transforms.quantize import quantize
from jitune.transforms.tokens import tokens
from jitune.types import MESH_AXES, UserError
from tests.references import CONFIGS, make_weights, write_checkpoint

SMALL = {"hidden_size": 16, "intermediate_size": 24, "vocab_size": 30, "head_dim": 4}
BASES = {name: CONFIGS[name] | SMALL for name in ("llama3", "qwen3")}  # qwen3 is tied, llama3 has biases
Q = "model.layers.{}.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    def write(name, raw):
        return write_checkpoint(tmp_path_factory.mktemp(name), raw, make_weights(raw))

    paths = {name: write(name, raw) for name, raw in BASES.items()}
    return paths, {name: jitune.load(path, dtype="float32") for name, path in paths.items()}


def train(transform, pretrained, seed=0):
    """(frozen, random trainable): the shapes are traced, and of what is frozen only scales are computed."""
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), pretrained.params)
    rng = np.random.default_rng(seed)
    return frozen, jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), trainable)


def equal(first, second):
    first, second = tree.flatten(first), tree.flatten(second)
    return first.keys() == second.keys() and all(
        first[p].dtype == second[p].dtype and np.array_equal(first[p], second[p]) for p in first)


def read(path):
    return json.loads((path / "adapter_config.json").read_text()), load_file(path / "adapter_model.safetensors")


def change(path, tensors=None, **options):
    """Rewrites an adapter's files."""
    config, old = read(path)
    (path / "adapter_config.json").write_text(json.dumps({**config, **options}))
    save_file({**old, **(tensors or {})}, path / "adapter_model.safetensors")


def make_lora(path, pretrained, base, rank=2, select="q_proj/kernel"):
    """A saved LoRA adapter."""
    transform = lora(rank, 4, select=select)
    frozen, trainable = train(transform, pretrained)
    peft.save(path, pretrained, transform, trainable, frozen=frozen, base=str(base))
    return path


CASES = {
    "lora": ("llama3", lora(3, 6, rank_pattern={"q_proj": 1, "mlp": 2}, alpha_pattern={"up_proj": 9})),
    "rslora": ("llama3", lora(3, 6, select="attn/.*kernel", rslora=True)),
    "dora": ("llama3", dora(2, 6, select="kernel|embed")),
    "tied": ("qwen3", lora(2, 6, select="embed|q_proj")),
    "with_others": ("llama3", chain(lora(2, 6, select="mlp/.*kernel"), select("norm|q_proj/bias|k_proj/kernel"),
                                    tokens([7, 3]))),
    "select": ("qwen3", select("embed|norm")),
    "tokens": ("qwen3", tokens([29, 0])),
    "prefix": ("qwen3", lambda model: prefix(3, model=model)),
    "prompt": ("llama3", lambda model: prompt(3, model=model)),
}  # fmt: skip


@pytest.mark.core
@pytest.mark.parametrize("case", CASES)
def test_a_round_trip_is_exact(case, base, tmp_path):
    name, transform = CASES[case]
    paths, loaded = base
    transform = transform if isinstance(transform, tuple) else transform(loaded[name].model)
    frozen, trainable = train(transform, loaded[name])
    peft.save(tmp_path / "a", loaded[name], transform, trainable, frozen=frozen, base=str(paths[name]))
    again, extras, arrays = peft.load(tmp_path / "a", loaded[name], base=paths[name])
    assert equal(arrays, trainable)
    scales = [{p: x for p, x in tree.flatten(f).items() if "scale/layers" in p} for f in (frozen, extras)]
    assert equal(*scales) and bool(scales[0]) == ("lora_a" in str(trainable))
    assert extras.get("0", extras)["base"] is loaded[name].params or "base" in extras.get("0", extras)
    peft.save(tmp_path / "b", loaded[name], again, arrays, frozen=extras, base=str(paths[name]))
    (first, one), (second, two) = read(tmp_path / "a"), read(tmp_path / "b")
    assert first == second and equal(one, two)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "jitune_adapter.json"}


@pytest.mark.core
def test_names_and_shapes_are_those_of_peft(base, tmp_path):
    paths, loaded = base
    transform = chain(lora(3, 6, select="q_proj/kernel|embed", rank_pattern={"embed": 2}),
                      select("lm_head|k_proj/bias"))  # fmt: skip
    frozen, trainable = train(transform, loaded["llama3"])
    peft.save(tmp_path, loaded["llama3"], transform, trainable, frozen=frozen, base=str(paths["llama3"]))
    config, tensors = read(tmp_path)
    wanted = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6, "bias": "none", "use_dora": False,
        "use_rslora": False, "target_modules": ["embed_tokens", "q_proj"], "rank_pattern": {"embed_tokens": 2},
        "alpha_pattern": {}, "modules_to_save": ["k_proj", "lm_head"], "inference_mode": True,
        "base_model_name_or_path": str(paths["llama3"]), "ensure_weight_tying": False,
    }  # fmt: skip
    assert wanted.items() <= config.items()
    prefix = "base_model.model."
    assert all(name.startswith(prefix) for name in tensors)
    shapes = {name.removeprefix(prefix): x.shape for name, x in tensors.items()}
    for i in range(3):
        k = f"model.layers.{i}.self_attn.k_proj"
        assert shapes[f"{k}.weight"] == (8, 16) and shapes[f"{k}.bias"] == (8,)
        assert shapes[Q.format(i) + ".lora_A.weight"] == (3, 16) and shapes[Q.format(i) + ".lora_B.weight"] == (16, 3)
    assert shapes["model.embed_tokens.lora_embedding_A"] == (2, 30)
    assert shapes["model.embed_tokens.lora_embedding_B"] == (16, 2)
    assert shapes["lm_head.weight"] == (30, 16) and len(shapes) == 3 * 4 + 3
    a = tree.flatten(trainable)["0/layers/attn/q_proj/kernel/lora_a"]
    np.testing.assert_array_equal(tensors[prefix + Q.format(1) + ".lora_A.weight"], a[1].T)


def test_saved_from_a_mesh_and_loaded_onto_one(base, tmp_path):
    paths, loaded = base
    make_lora(tmp_path / "a", loaded["llama3"], paths["llama3"])
    spread = jitune.load(paths["llama3"], dtype="float32", mesh=make_mesh(data=1, fsdp=4, tensor=2))
    transform, frozen, trainable = peft.load(tmp_path / "a", spread, base=paths["llama3"])
    b = tree.flatten(trainable)["layers/attn/q_proj/kernel/lora_b"]
    assert dict(b.sharding.mesh.shape) == {**dict.fromkeys(MESH_AXES, 1), "fsdp": 4, "tensor": 2}
    assert not b.sharding.is_fully_replicated
    peft.save(tmp_path / "b", spread, transform, trainable, frozen=frozen, base=str(paths["llama3"]))
    assert equal(*(load_file(tmp_path / d / "adapter_model.safetensors") for d in "ab"))


@pytest.mark.core
def test_layers_without_factors_change_nothing(base, tmp_path):
    paths, loaded = base
    make_lora(tmp_path, loaded["llama3"], paths["llama3"])
    config, tensors = read(tmp_path)
    kept = {n: x for n, x in tensors.items() if ".layers.1." in n}
    save_file(kept, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="missing tensors: model.layers.0.self_attn.q_proj.lora_A.weight.* and 1 more"):
        peft.load(tmp_path, loaded["llama3"])
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "layers_to_transform": [1]}))
    transform, frozen, trainable = peft.load(tmp_path, loaded["llama3"])
    merged, plain = (tree.flatten(t)["layers/attn/q_proj/kernel"] for t in (
        transform.merge(frozen, trainable), loaded["llama3"].params))  # fmt: skip
    assert [bool((merged[i] == plain[i]).all()) for i in range(3)] == [True, False, True]
    peft.save(tmp_path / "b", loaded["llama3"], transform, trainable, frozen=frozen)
    config, again = read(tmp_path / "b")
    assert equal(kept, again) and config["target_modules"] == [Q.format(1)]


@pytest.mark.core
def test_a_minimal_config_is_enough(base, tmp_path):
    paths, loaded = base
    make_lora(tmp_path, loaded["llama3"], paths["llama3"])
    minimal = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 6, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(minimal))
    (tmp_path / "jitune_adapter.json").unlink()
    _, frozen, _ = peft.load(tmp_path, loaded["llama3"], base=paths["qwen3"])
    assert tree.flatten(frozen["scale"])["layers/attn/q_proj/kernel"].tolist() == [3.0] * 3


@pytest.mark.core
def test_pissa_is_saved_as_lora_of_twice_the_rank(base, tmp_path):
    paths, loaded = base
    transform = lora(2, 4, select="(q|o)_proj/kernel", init="pissa")
    frozen, trainable = train(transform, loaded["llama3"])
    peft.save(tmp_path, loaded["llama3"], transform, trainable, frozen=frozen)
    config, _ = read(tmp_path)
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (4, 8, True)
    again, extras, arrays = peft.load(tmp_path, loaded["llama3"])
    first, second = (tree.flatten(t.merge(*pair)) for t, pair in (
        (transform, (frozen, trainable)), (again, (extras, arrays))))  # fmt: skip
    assert all(np.allclose(first[p], second[p], 1e-5, 1e-5) for p in first)


@pytest.mark.core
def test_a_quantized_base_has_the_same_adapter(base, tmp_path):
    paths, loaded = base
    transform = chain(quantize("int8"), lora(2, 4))
    frozen, trainable = train(transform, loaded["llama3"])
    peft.save(tmp_path, loaded["llama3"], transform, trainable, frozen=frozen, base=str(paths["llama3"]))
    coded = loaded["llama3"]._replace(params=frozen["0"]["base"])
    again, extras, arrays = peft.load(tmp_path, coded, base=paths["llama3"])
    assert equal(arrays, trainable["1"]) and extras["base"] is coded.params


@pytest.mark.core
@pytest.mark.parametrize("transform, message", [
    (full(), "every parameter is trained, so there is no adapter"),
    (lambda m: chain(lora(2, 4), prefix(2, model=m)), "PEFT has no adapter with a prefix and low-rank factors in one"),
    (chain(lora(2, 4, select="q_proj/k"), select("q_proj/bias")), "another part of model.layers.0.self_attn.q_proj"),
    (chain(lora(2, 4, select="q_proj/k"), dora(2, 4, select="k_proj/k")), "no adapter with LoRA and DoRA in one"),
    (dora(2, 4, select="embed"), "no DoRA of an embedding that is the head too"),
], ids=["full", "prefix", "beside", "dora", "tied"])  # fmt: skip
def test_what_peft_has_no_form_for_is_refused(transform, message, base, tmp_path):
    pretrained = base[1]["qwen3" if "embedding that" in message else "llama3"]
    transform = transform if isinstance(transform, tuple) else transform(pretrained.model)
    frozen, trainable = train(transform, pretrained)
    with pytest.raises(UserError, match=message) as error:
        peft.save(tmp_path / "a", pretrained, transform, trainable, frozen=frozen)
    assert "\n" not in str(error.value) and not (tmp_path / "a").exists()


FAULTS = {
    "kind": ({"peft_type": "IA3"}, {}, "'IA3' is not supported; supported are LORA, PREFIX_TUNING, PROMPT_TUNING"),
    "task": ({"task_type": "SEQ_CLS"}, {}, "task_type 'SEQ_CLS' is not supported"),
    "bias": ({"bias": "lora_only"}, {}, "bias='lora_only' is not supported; supported is 'none'"),
    "option": ({"use_qalora": True}, {}, "use_qalora=True is not supported"),
    "unknown": ({"use_magic": 3}, {}, "use_magic=3 is not supported"),
    "pissa": ({"init_lora_weights": "pissa_niter_4"}, {}, "'pissa_niter_4' changes the base on loading; convert"),
    "target": ({"target_modules": ["q_proj", "c_attn"]}, {}, "'c_attn' matches no module of the base; the nearest are"),
    "regex": ({"target_modules": "q_proj"}, {}, "'q_proj' matches no module"),
    "norm": ({"target_modules": ["q_proj", "input_layernorm"]}, {}, "neither a linear layer nor an embedding"),
    "saved": ({"modules_to_save": ["score"]}, {}, "modules_to_save 'score' matches no module"),
    "names": ({"target_modules": 5}, {}, "target_modules=5 must be a list of names"),
    "broken": ({"rank_pattern": {"(q": 2}}, {}, r"'\(q' is not a regular expression"),
    "zero": ({"rank_pattern": {"q_proj": 0}}, {}, "q_proj=0 must be a positive integer"),
    "rank": ({"r": 3}, {}, r"q_proj.lora_A.weight has shape \(2, 16\); .* ask for \(3, 16\)"),
    "pattern": ({"rank_pattern": {"1.self_attn.q_proj": 5}}, {}, r"layers.1.self_attn.q_proj.lora_A.weight has shape"),
    "extra": ({}, {"model.layers.0.self_attn.q_prj.lora_A.weight": [[1.0]]},
              "left over tensors: .*q_prj.lora_A.weight; the nearest asked for is model.layers.0.self_attn.q_proj"),
    "missing": ({"target_modules": ["q_proj", "k_proj"]}, {}, "missing tensors: .*k_proj.lora_A.weight"),
    "magnitude": ({"use_dora": True}, {}, "missing tensors: .*q_proj.lora_magnitude_vector"),
    "token": ({"trainable_token_indices": [30]}, {}, "id 30 is not among the 30 tokens of this base"),
}  # fmt: skip


@pytest.mark.core
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault, base, tmp_path):
    options, tensors, message = FAULTS[fault]
    make_lora(tmp_path, base[1]["llama3"], base[0]["llama3"])
    change(tmp_path, {f"base_model.model.{n}": np.asarray(x, np.float32) for n, x in tensors.items()}, **options)
    with pytest.raises(UserError, match=message) as error:
        peft.load(tmp_path, base[1]["llama3"], base=base[0]["llama3"])
    assert "\n" not in str(error.value)


@pytest.mark.core
def test_an_adapter_of_another_base_is_refused(base, tmp_path):
    paths, loaded = base
    make_lora(tmp_path / "a", loaded["llama3"], paths["llama3"])
    shutil.copytree(paths["llama3"], tmp_path / "copy")
    peft.load(tmp_path / "a", loaded["llama3"], base=tmp_path / "copy")
    write_checkpoint(tmp_path / "copy", BASES["llama3"], make_weights(BASES["llama3"], seed=1))
    with pytest.raises(UserError, match="was made for another base, .*llama3.*; the weights of .*copy are others"):
        peft.load(tmp_path / "a", jitune.load(tmp_path / "copy", dtype="float32"), base=tmp_path / "copy")
    wide = write_checkpoint(tmp_path / "wide", raw := BASES["llama3"] | {"hidden_size": 32}, make_weights(raw))
    with pytest.raises(UserError, match=r"q_proj.lora_A.weight has shape \(2, 16\); .* this base ask for \(2, 32\)"):
        peft.load(tmp_path / "a", jitune.load(wide, dtype="float32"))
    with pytest.raises(UserError, match="num_layers=3, this base asks for 2"):
        transform = prompt(2, model=loaded["qwen3"].model)
        frozen, trainable = train(transform, loaded["qwen3"])
        peft.save(tmp_path / "p", loaded["qwen3"], transform, trainable, frozen=frozen)
        short = write_checkpoint(tmp_path / "s", raw := BASES["qwen3"] | {"num_hidden_layers": 2}, make_weights(raw))
        peft.load(tmp_path / "p", jitune.load(short, dtype="float32"))


@pytest.mark.core
def test_pickles_and_other_directories_are_left_alone(base, tmp_path):
    paths, loaded = base
    make_lora(tmp_path / "a", loaded["llama3"], paths["llama3"])
    (tmp_path / "a" / "adapter_model.safetensors").rename(tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(UserError, match=r"only pickled weights \(adapter_model.bin\), and pickles are never loaded"):
        peft.load(tmp_path / "a", loaded["llama3"])
    (tmp_path / "a" / "notes.txt").write_text("mine")
    make_lora(tmp_path / "a", loaded["llama3"], paths["llama3"])  # in place of the old one, other files kept
    assert (tmp_path / "a" / "notes.txt").exists() and not (tmp_path / "a" / "adapter_model.bin").exists()
    with pytest.raises(UserError, match="is not empty and holds no adapter"):
        make_lora(paths["llama3"], loaded["llama3"], paths["llama3"])


@pytest.mark.core
def test_a_tied_head_is_not_changed_apart(base, tmp_path):
    """PEFT has an embedding and a head where this base has one weight."""
    paths, loaded = base
    make_lora(tmp_path, loaded["qwen3"], paths["qwen3"], select="embed")
    config, tensors = read(tmp_path)
    head = {n: x for n, x in tensors.items() if "lm_head" in n}
    assert config["ensure_weight_tying"] and config["target_modules"] == ["embed_tokens"] and len(head) == 2
    save_file({n: x for n, x in tensors.items() if n not in head}, tmp_path / "adapter_model.safetensors")
    first = peft.load(tmp_path, loaded["qwen3"])[2]  # what the head lacks is the embedding's
    for options, changed in (({"ensure_weight_tying": False}, {}), ({}, {n: x + 1 for n, x in head.items()})):
        save_file(tensors, tmp_path / "adapter_model.safetensors")
        change(tmp_path, changed, **{"ensure_weight_tying": True, **options})
        if not changed:
            save_file({n: x for n, x in tensors.items() if n not in head}, tmp_path / "adapter_model.safetensors")
        with pytest.raises(UserError, match="changes one of embed_tokens and lm_head, or both differently"):
            peft.load(tmp_path, loaded["qwen3"])
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    change(tmp_path, target_modules=["embed_tokens", "lm_head"], ensure_weight_tying=False)
    assert equal(peft.load(tmp_path, loaded["qwen3"])[2], first)  # both changed, and alike


# The form for vLLM.


@pytest.mark.core
def test_vllm_gets_one_rank_and_the_scale_in_b(base, tmp_path):
    paths, loaded = base
    transform = lora(3, 7, select="attn/.*kernel", rank_pattern={"v_proj": 1}, alpha_pattern={"o_proj": 2}, rslora=True)
    frozen, trainable = train(transform, loaded["llama3"])
    parts = adapter.take(frozen, trainable, loaded["llama3"].config)
    peft.write(tmp_path, adapter.Parts(fold(parts.factors), {}, {}), loaded["llama3"], base="org/base", rslora=False)
    config, tensors = read(tmp_path)
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (8, 8, False)
    assert not config["rank_pattern"] and not config["alpha_pattern"] and not config["modules_to_save"]
    assert {x.shape[0] for n, x in tensors.items() if "lora_A" in n} == {8}
    again, extras, arrays = peft.load(tmp_path, loaded["llama3"])
    first, second = (tree.flatten(t.merge(*pair)) for t, pair in (
        (transform, (frozen, trainable)), (again, (extras, arrays))))  # fmt: skip
    assert all(np.allclose(first[p], second[p], 1e-5, 1e-5) for p in first)
    wide = {"m": adapter.Factors(np.zeros((600, 513), np.float32), np.zeros((513, 600), np.float32), 1.0)}
    with pytest.raises(UserError, match="vLLM serves ranks up to 512, and the adapter has 513"):
        fold(wide)


@pytest.mark.core
def test_alphas_have_few_digits():
    for alpha, rank, root in ((16, 3, False), (1, 7, True), (0.1, 6, False), (24.5, 11, True)):
        scale = float(np.float32(alpha / (rank**0.5 if root else rank)))
        assert peft_config._alpha(scale, rank, root) == alpha
