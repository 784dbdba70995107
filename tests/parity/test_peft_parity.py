"""Adapters against PEFT: what either writes the other loads, and both compute the same logits.

Factors, magnitudes and saved weights are random and not at their initial values, which would hide mistakes.
"""

import functools
import json
import warnings

import pytest

torch = pytest.importorskip("torch", reason="the reference implementation needs torch")
peft = pytest.importorskip("peft", reason="the reference implementation is PEFT")

import jax
import numpy as np
import transformers

import jitune
from jitune import tree
from jitune.export import Trained, export_vllm, save_model
from jitune.generation.generate import generate
from jitune.hub import peft as adapters
from jitune.hub.resize import grow, resize_config
from jitune.models import decoder
from jitune.transforms.chain import chain
from jitune.transforms.dora import dora
from jitune.transforms.lora import lora
from jitune.transforms.partial import select
from jitune.transforms.prefix import prefix
from jitune.transforms.prompt import prompt
from jitune.transforms.quantize import quantize
from jitune.transforms.tokens import tokens
from jitune.transforms.weights import base_of
from jitune.types import UserError
from tests.data import toy
from tests.references import ATOL, CONFIGS, RTOL, make_tokens, make_weights, write_checkpoint

torch.set_num_threads(1)
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 90, "head_dim": 8}
BASES = {
    "llama": CONFIGS["llama2"] | SMALL,
    "mistral": CONFIGS["mistral"] | SMALL,
    "qwen2": CONFIGS["qwen2"] | SMALL | {"head_dim": None},
    "qwen3": CONFIGS["qwen3"] | SMALL,  # tied
}
_OTHER = {**{k: v for k, v in SMALL.items() if k != "head_dim"}, "num_attention_heads": 4, "num_key_value_heads": 2,
          "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
# Made by transformers itself: its layouts are what is tested.
MADE = {
    "phi3": {"model_type": "phi3", **_OTHER},  # qkv_proj, gate_up_proj
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64, "vocab_size": 90,
             "bos_token_id": 1, "eos_token_id": 2},  # Conv1D, tied
    "gemma2": {"model_type": "gemma2", **_OTHER, "head_dim": 8},  # tied
    "olmo2": {"model_type": "olmo2", **_OTHER},
}  # fmt: skip
BASES |= MADE
IDS = {name: make_tokens(raw, rows=2, length=11) for name, raw in BASES.items()}
NEW = 8


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """`base(name) -> directory`, as transformers writes it."""

    def make_by_torch(raw: dict, directory):
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(**raw), dtype=torch.float32)  # fmt: skip
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                noise = torch.randn(weight.shape, generator=generator)
                weight += 0.3 * noise if weight.ndim == 1 else noise * weight.shape[-1] ** -0.5
        model.save_pretrained(directory)
        return directory

    @functools.cache
    def make(name: str):
        if name in MADE:
            return make_by_torch(MADE[name], tmp_path_factory.mktemp(name))
        raw = {k: v for k, v in BASES[name].items() if v is not None}
        return write_checkpoint(tmp_path_factory.mktemp(name), raw, make_weights(raw))

    return make


@pytest.fixture(scope="module")
def pretrained(base):
    return functools.cache(lambda name: jitune.load(base(name), dtype="float32"))


def load_torch(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager")


def load_peft(base, directory):
    """The adapter over its base; PEFT must have nothing to complain of."""
    model = load_torch(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")
        # Conv1D and Linear in one adapter have no setting without it; PEFT does the right thing.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to True but .*torch.nn.Linear")
        return peft.PeftModel.from_pretrained(model, str(directory)).eval()


def their_logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor(ids, dtype=torch.long)).logits.numpy()


def our_logits(pretrained, transform, frozen, trainable, ids):
    model = transform.apply(pretrained.model)
    return np.asarray(jax.jit(functools.partial(jitune.logits, model))((frozen, trainable), ids))


def randomize(arrays, seed=0):
    """Every array of a tree with noise."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.asarray(x) + 0.1 * rng.standard_normal(x.shape, np.float32), arrays)


def check(found, wanted, plain):
    """found = wanted, and the adapter does something."""
    np.testing.assert_allclose(found, wanted, RTOL, ATOL)
    assert abs(wanted - plain).max() > 0.01


OURS = {
    "lora": ("llama", lora(4, 8)),
    "rslora": ("llama", lora(3, 16, select="(k|down)_proj/kernel", rslora=True)),
    "dora": ("mistral", dora(4, 8, select="(q|down)_proj|embed|lm_head")),
    "patterns": ("qwen3", lora(4, 8, select="(q|o|up|down)_proj", rank_pattern={"q_proj": 2, "mlp": 3},
                               alpha_pattern={"mlp/up": 5, "o_proj": 32})),
    "embedding": ("mistral", lora(4, 8, select="embed|lm_head|q_proj")),
    "tied": ("qwen3", lora(3, 5, select="embed|q_proj", rank_pattern={"embed": 6})),
    "saved": ("qwen2", chain(lora(4, 8, select="up_proj"), select("norm|lm_head|q_proj/kernel|v_proj/bias"))),
    "saved_tied": ("qwen3", chain(lora(4, 8, select="o_proj"), select("embed|k_norm"))),
    "only_saved": ("mistral", select("norm")),
    "tokens": ("mistral", chain(lora(4, 8, select="q_proj"), tokens([5, 3]))),
    "tokens_tied": ("qwen3", tokens([7, 80, 1])),
    "pissa": ("llama", lora(4, 8, select="(q|up)_proj", init="pissa")),
    "phi3": ("phi3", lora(4, 8, select="(q|k|up|down)_proj", rank_pattern={"k_proj": 2}, alpha_pattern={"up": 5})),
    "phi3_rslora": ("phi3", lora(3, 16, rslora=True)),
    "phi3_dora": ("phi3", dora(3, 8, select="(q|v|gate|o)_proj/kernel")),
    "phi3_saved": ("phi3", chain(lora(4, 8, select="mlp/.*kernel"), select("k_proj/kernel|norm"))),
    "gpt2": ("gpt2", lora(4, 8, select="(v|o|up|down)_proj/kernel", rank_pattern={"mlp": 2})),
    "gpt2_dora": ("gpt2", dora(4, 8, select="(q|k|o|down)_proj/kernel")),
    "gpt2_tied": ("gpt2", chain(lora(3, 6, select="embed/embedding|q_proj/kernel"), select("positions|norm"))),
    "gpt2_saved": ("gpt2", select("q_proj/bias|v_proj/kernel|up_proj")),
    "gpt2_saved_tied": ("gpt2", select("embed/embedding|norm/bias")),
    "gemma2": ("gemma2", chain(lora(4, 8, select="(q|down)_proj/kernel|embed"), select("post_norm"))),
    "olmo2": ("olmo2", chain(lora(4, 8, rslora=True), select("(q|k)_norm|lm_head"))),
    "olora": ("qwen3", lora(4, 8, select="(k|down)_proj", init="olora", rslora=True)),
}


@pytest.mark.parametrize("case", OURS)
def test_peft_loads_what_is_saved(case, base, pretrained, tmp_path):
    name, transform = OURS[case]
    loaded = pretrained(name)
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), loaded.params)
    trainable = randomize(trainable)
    adapters.save(tmp_path / "a", loaded, transform, trainable, frozen=frozen, base=str(base(name)))
    model = load_peft(base(name), tmp_path / "a")
    ids, plain = IDS[name], their_logits(load_torch(base(name)), IDS[name])
    check(our_logits(loaded, transform, frozen, trainable, ids), their_logits(model, ids), plain)
    model.save_pretrained(tmp_path / "b")
    ours, theirs = (json.loads((tmp_path / d / "adapter_config.json").read_text()) for d in "ab")
    tables = {"model.embed_tokens", *(("wte", "transformer.wte", "lm_head") if name == "gpt2" else ())}
    for config in (ours, theirs):  # sets there; PEFT adds the embedding once more where it is tied
        for key in ("target_modules", "modules_to_save"):
            names = config[key]
            config[key] = set(names) - tables if isinstance(names, list) else names
        config.pop("fan_in_fan_out")  # PEFT keeps that of the last module
    assert ours.items() <= theirs.items()
    again = adapters.load(tmp_path / "b", loaded, base=base(name))[2]
    first = adapters.load(tmp_path / "a", loaded, base=base(name))[2]
    theirs, ours = tree.flatten(again), tree.flatten(first)
    assert all(np.array_equal(theirs[path], array) for path, array in ours.items())


L = functools.partial(peft.LoraConfig, task_type="CAUSAL_LM", r=4, lora_alpha=12)
THEIRS = {
    "all_linear": ("qwen3", L(target_modules="all-linear", use_rslora=True)),
    "dora": ("mistral", L(target_modules=["k_proj", "up_proj", "embed_tokens", "lm_head"], use_dora=True)),
    "dora_in_one_layer": ("llama", L(target_modules=["q_proj", "up_proj"], use_dora=True, layers_to_transform=[1])),
    "regex": ("mistral", L(target_modules=r".*\.1\.(self_attn|mlp)\.(q|gate|down)_proj", fan_in_fan_out=True)),
    "layers": ("qwen2", L(target_modules=["k_proj", "down_proj"], layers_to_transform=[0], layers_pattern="layers")),
    "phi3": ("phi3", L(target_modules=["qkv_proj", "gate_up_proj", "down_proj"], rank_pattern={"gate_up_proj": 2},
                       alpha_pattern={"layers.0.self_attn.qkv_proj": 3}, use_rslora=True)),
    "phi3_dora": ("phi3", L(target_modules=["qkv_proj", "gate_up_proj"], use_dora=True)),
    "phi3_saved": ("phi3", L(target_modules=["o_proj"], modules_to_save=["qkv_proj"], layers_to_transform=[1])),
    "gpt2": ("gpt2", L(target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)),
    "gpt2_dora": ("gpt2", L(target_modules=["c_attn", "mlp.c_proj"], use_dora=True, fan_in_fan_out=True)),
    "gpt2_saved": ("gpt2", L(target_modules=["c_fc"], modules_to_save=["c_attn", "ln_f"], fan_in_fan_out=True)),
    "gpt2_tied": ("gpt2", L(target_modules=["lm_head", "c_attn"], ensure_weight_tying=True, fan_in_fan_out=True)),
    "gemma2": ("gemma2", L(target_modules="all-linear", modules_to_save=["post_feedforward_layernorm"])),
    "olmo2": ("olmo2", L(target_modules=["k_proj", "up_proj", "lm_head"], modules_to_save=["q_norm"])),
    "excluded": ("llama", L(target_modules=["q_proj", "o_proj", "up_proj"],
                            exclude_modules=["layers.0.mlp.up_proj", "o_proj"])),
    "patterns": ("llama", L(target_modules=["q_proj", "k_proj", "v_proj", "up_proj"],
                            rank_pattern={r"layers\.1\..*": 2, "q_proj": 6, "mlp.up_proj": 1},
                            alpha_pattern={"model.layers.0.self_attn.q_proj": 3, "(k|v)_proj": 7})),
    "embedding": ("mistral", L(target_modules=["embed_tokens", "lm_head", "q_proj"], rank_pattern={"lm_head": 2})),
    "tied": ("qwen3", L(target_modules=["embed_tokens", "q_proj"], ensure_weight_tying=True)),
    "tied_by_its_head": ("qwen3", L(target_modules=["lm_head", "q_proj"], ensure_weight_tying=True)),
    "saved": ("qwen2", L(target_modules=["q_proj"], modules_to_save=["lm_head", "model.norm", "o_proj", "v_proj"])),
    "saved_tied": ("qwen3", L(target_modules=["q_proj"], modules_to_save=["embed_tokens"], ensure_weight_tying=True)),
    "saved_in_one_layer": ("llama", L(target_modules=["q_proj"], modules_to_save=["layers.1.mlp.up_proj"])),
    "tokens": ("mistral", L(target_modules=["q_proj"],
                            trainable_token_indices={"lm_head": [8, 1], "embed_tokens": [1, 5]})),
    "tokens_of_the_embedding": ("llama", L(target_modules=["q_proj"], trainable_token_indices=[1, 5])),
    "tokens_tied": ("qwen3", L(target_modules=["q_proj"], trainable_token_indices=[1, 5])),
    "trainable_tokens": ("qwen3", peft.TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=[3, 50])),
}  # fmt: skip


@pytest.mark.parametrize("case", THEIRS)
def test_what_peft_saves_is_loaded(case, base, pretrained, tmp_path):
    name, config = THEIRS[case]
    model = peft.get_peft_model(load_torch(base(name)), config).eval()
    with torch.no_grad():
        for weight in (w for w in model.parameters() if w.requires_grad):
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(tmp_path / "a")
    loaded, ids = pretrained(name), IDS[name]
    wanted, plain = their_logits(model, ids), their_logits(load_torch(base(name)), ids)
    transform, frozen, trainable = adapters.load(tmp_path / "a", loaded, base=base(name))
    check(our_logits(loaded, transform, frozen, trainable, ids), wanted, plain)
    adapters.save(tmp_path / "b", loaded, transform, trainable, frozen=frozen, base=str(base(name)))
    check(their_logits(load_peft(base(name), tmp_path / "b"), ids), wanted, plain)


# What is written for others than PEFT.

MERGED = {
    "lora": ("qwen2", chain(quantize("int8"), lora(4, 8, select="(q|down)_proj/kernel"))),
    "dora": ("mistral", dora(4, 8, select="(q|down)_proj|embed")),
    "tied": ("qwen3", chain(lora(4, 8, select="embed|q_proj"), select("norm"))),
    "fused": ("phi3", lora(4, 8, select="(q|k|up|down)_proj", rank_pattern={"k_proj": 2})),
    "conv1d": ("gpt2", lora(4, 8, select="(v|up)_proj/kernel")),
}


@pytest.mark.parametrize("case", MERGED)
def test_merged_models_and_those_for_vllm(case, base, pretrained, tmp_path):
    name, transform = MERGED[case]
    loaded, ids = pretrained(name), IDS[name]
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), loaded.params)
    trainable = randomize(trainable)
    wanted, plain = our_logits(loaded, transform, frozen, trainable, ids), their_logits(load_torch(base(name)), ids)
    tokenizer = toy.make_tokenizer(chat_template="{{ messages[0]['content'] }}")
    run = Trained(loaded._replace(tokenizer=tokenizer, params=base_of(frozen)), str(base(name)), transform, frozen,
                  trainable)  # fmt: skip
    save_model(tmp_path / "merged", run.base, transform.merge(frozen, trainable), "float32")
    check(their_logits(load_torch(tmp_path / "merged"), ids), wanted, plain)
    written = export_vllm(run, tmp_path / "vllm", "float32")
    others = {"tied": ["base", "adapter"], "dora": ["base"], "conv1d": ["base"]}
    assert [p.name for p in written] == others.get(case, ["adapter"])
    if case == "lora":  # vLLM's base has all its bits
        frozen = {"1": frozen["1"], "0": {"base": loaded.params}}
        wanted = our_logits(loaded, transform, frozen, trainable, ids)
    under, adapted = written[0] if written[0].name == "base" else base(name), written[-1].name == "adapter"
    served = load_peft(under, written[-1]) if adapted else load_torch(under)
    check(their_logits(served, ids), wanted, plain)
    if adapted:
        config = json.loads((written[-1] / "adapter_config.json").read_text())
        assert config["r"] == config["lora_alpha"] == 8 and config["base_model_name_or_path"] == str(under)


def test_added_tokens(base, pretrained, tmp_path):
    """The base grows as the adapter was trained; PEFT's user does it by hand."""
    raw, ids = BASES["mistral"], IDS["mistral"].copy()
    ids[:, 5] = [90, 91]
    config = resize_config(pretrained("mistral").config, 92)
    grown = {p: grow(p, x, 92) for p, x in tree.flatten(pretrained("mistral").params).items()}
    loaded = pretrained("mistral")._replace(model=decoder.build(config), params=tree.unflatten(grown), config=config)
    transform = chain(lora(4, 8, select="q_proj"), tokens([90, 91]))
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), loaded.params)
    trainable = randomize(trainable)
    adapters.save(tmp_path, loaded, transform, trainable, frozen=frozen, base=str(base("mistral")))
    with pytest.raises(UserError, match="was trained with 92 tokens, and this base has 90"):
        adapters.load(tmp_path, pretrained("mistral"))
    opened = adapters.open_adapters(pretrained("mistral"), {"a": tmp_path}, base=base("mistral"))["a"]
    found = np.asarray(jax.jit(functools.partial(jitune.logits, opened.model))(opened.params, ids))
    model = load_torch(base("mistral"))
    model.resize_token_embeddings(92, mean_resizing=False)
    model = peft.PeftModel.from_pretrained(model, str(tmp_path)).eval()
    np.testing.assert_allclose(found, their_logits(model, ids), RTOL, ATOL)
    assert raw["vocab_size"] == pretrained("mistral").config.vocab_size == 90


FRONT = {
    "prefix": ("mistral", lambda model: prefix(5, model=model)),
    "prefix_by_an_mlp": ("qwen3", lambda model: prefix(3, model=model, projection=12)),
    "prompt": ("qwen2", lambda model: prompt(4, model=model)),
}


@pytest.mark.parametrize("case", FRONT)
def test_prefixes_and_prompts_both_ways(case, base, pretrained, tmp_path):
    name, make = FRONT[case]
    loaded, ids = pretrained(name), IDS[name]
    transform = make(loaded.model)
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), loaded.params)
    adapters.save(tmp_path / "a", loaded, transform, trainable, frozen=frozen, base=str(base(name)))
    model, plain = load_peft(base(name), tmp_path / "a"), their_logits(load_torch(base(name)), ids)
    found = our_logits(loaded, transform, frozen, trainable, ids)
    check(found, their_logits(model, ids)[:, -ids.shape[1] :], plain)
    model.save_pretrained(tmp_path / "b")
    ours, theirs = (json.loads((tmp_path / d / "adapter_config.json").read_text()) for d in "ab")
    assert ours.items() <= theirs.items()
    again, frozen, trainable = adapters.load(tmp_path / "b", loaded, base=base(name))
    np.testing.assert_allclose(our_logits(loaded, again, frozen, trainable, ids), found, RTOL, ATOL)
    rows = [ids[0].tolist(), ids[1][:6].tolist()]
    answers = generate(again.apply(loaded.model), (frozen, trainable), None, rows, max_new_tokens=NEW)
    for row, answer in zip(rows, answers, strict=True):
        assert answer.tokens == greedy(model, row)


def greedy(model, tokens):
    """NEW tokens, each from the whole sequence: PEFT's generate loses the prefix under transformers 5.23."""
    tokens = list(tokens)
    for _ in range(NEW):
        tokens.append(int(their_logits(model, np.array([tokens]))[0, -1].argmax()))
    return tokens[-NEW:]
