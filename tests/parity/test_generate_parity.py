"""Greedy decoding and sampling filters against transformers, in float32.

Norms and biases are random, since their initial values hide mistakes; the batch is padded on the left there.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import jax.numpy as jnp

from jitune.generation.generate import generate
from jitune.generation.sampling import Sampling, process
from jitune.hub import weights

VOCAB, NEW = 331, 24
LENGTHS = (1, 5, 23, 40)
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
    "initializer_range": 0.1, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}  # fmt: skip
CASES = {
    "llama": {"rope_parameters": LLAMA3, "attention_bias": True, "head_dim": 16},
    "mistral": {"sliding_window": 7, "head_dim": 24},
    "qwen2": {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1,
              "tie_word_embeddings": True},
    "qwen3": {"head_dim": 32},
    "gemma2": {"head_dim": 24, "sliding_window": 7, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 2.0,
               "final_logit_softcapping": 3.0},
    "gemma3_text": {"head_dim": 24, "sliding_window": 7, "layer_types": ["sliding_attention"] * 2 + ["full_attention"],
                    "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                                        "full_attention": {"rope_type": "linear", "factor": 4.0,
                                                           "rope_theta": 10_000.0}}},
    "phi3": {"sliding_window": 11, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0,
                                                       "partial_rotary_factor": 0.5}},
    "smollm3": {"no_rope_layers": [1, 0, 1], "use_sliding_window": True, "sliding_window": 9},
    "olmo2": {"attention_bias": True},
    "gpt2": {"tie_word_embeddings": False},  # with the embedding as its head it would repeat one token
    "mixtral": {"num_local_experts": 4, "sliding_window": 9},
    "qwen2_moe": {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
                  "shared_expert_intermediate_size": 80},
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "norm_topk_prob": True},
}  # fmt: skip
GPT2 = {"hidden_size": "n_embd", "intermediate_size": "n_inner", "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head", "max_position_embeddings": "n_positions",
        "rms_norm_eps": "layer_norm_epsilon"}  # fmt: skip


def sizes(family):
    if family != "gpt2":
        return SIZES
    return {GPT2.get(key, key): value for key, value in SIZES.items() if key != "num_key_value_heads"}


@pytest.fixture(scope="module")
def pair(request, tmp_path_factory):
    """A random transformers model, and the same one loaded here."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(request.param, **sizes(request.param), **CASES[request.param])
    config._attn_implementation = "eager"
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "norm" in name or "ln_" in name or name.endswith("bias"):
                weight += 0.3 * torch.randn_like(weight)
    path = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(path)
    return theirs, weights.load(path, dtype="float32")


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(0)
    return [rng.integers(1, VOCAB, n).tolist() for n in LENGTHS]


def their_answers(model, prompts, **options):
    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = model.generate(
        tokens, attention_mask=mask, max_new_tokens=NEW, do_sample=False, output_logits=True,
        return_dict_in_generate=True, **options,
    )  # fmt: skip
    return out.sequences[:, width:].tolist(), torch.stack(out.logits, 1).log_softmax(-1).numpy()


@pytest.mark.parametrize(
    "pair, penalty", [*((family, 1.0) for family in CASES), ("qwen3", 1.3)], indirect=["pair"]
)
def test_greedy_tokens_and_logprobs(pair, prompts, penalty):
    theirs, (model, params, _, _) = pair
    tokens, logprobs = their_answers(theirs, prompts, repetition_penalty=penalty)
    sampling = Sampling(repetition_penalty=penalty)
    answers = generate(model, params, None, prompts, max_new_tokens=NEW, sampling=sampling)
    assert len({tuple(t) for t in tokens}) == len(prompts)
    for i, answer in enumerate(answers):
        assert answer.tokens == tokens[i]
        expected = logprobs[i, np.arange(NEW), tokens[i]]
        np.testing.assert_allclose(answer.logprobs, expected, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("pair", ["qwen3"], indirect=True)
def test_stopping_at_an_eos(pair, prompts):
    theirs, (model, params, _, _) = pair
    free, _ = their_answers(theirs, prompts)
    eos = [free[0][5], free[1][2]]
    tokens, _ = their_answers(theirs, prompts, eos_token_id=eos)
    answers = generate(model, params, None, prompts, max_new_tokens=NEW, stop_ids=eos)
    for answer, row in zip(answers, tokens, strict=True):
        assert row == answer.tokens + [0] * (len(row) - len(answer.tokens))
        assert (answer.finish_reason == "stop") == (answer.tokens[-1] in eos)


@pytest.mark.parametrize("settings", [
    {"temperature": 0.3}, {"top_k": 1}, {"top_k": 13}, {"top_p": 0.01}, {"top_p": 0.6}, {"top_p": 0.99},
    {"min_p": 0.1}, {"min_p": 1.0}, {"repetition_penalty": 1.5}, {"repetition_penalty": 0.8},
    {"repetition_penalty": 1.2, "temperature": 1.7, "top_k": 50, "top_p": 0.9, "min_p": 0.01},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("ties", [False, True])
def test_filters(settings, ties):
    from transformers.generation import logits_process as hf

    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (6, VOCAB)).astype(np.float32)
    if ties:
        logits = np.round(logits)
    tokens = rng.integers(0, VOCAB, (6, 40))
    seen = np.zeros((6, VOCAB), bool)
    seen[np.arange(6)[:, None], tokens] = True
    order = {
        "repetition_penalty": hf.RepetitionPenaltyLogitsProcessor, "temperature": hf.TemperatureLogitsWarper,
        "top_k": hf.TopKLogitsWarper, "top_p": hf.TopPLogitsWarper, "min_p": hf.MinPLogitsWarper,
    }  # fmt: skip
    processors = hf.LogitsProcessorList(order[k](settings[k]) for k in order if k in settings)
    theirs = processors(torch.tensor(tokens), torch.tensor(logits)).numpy()
    sampling = Sampling(**{"temperature": 1.0, **settings})
    ours = np.asarray(process(jnp.asarray(logits), jnp.asarray(seen), sampling))
    if ties and sampling.top_p < 1:
        # Which of several equal logits stay is up to torch's sort, which is not stable; how many is not.
        ours, theirs = np.sort(ours), np.sort(theirs)
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
