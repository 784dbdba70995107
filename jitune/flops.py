"""Model FLOPs of training, counted from a config: what MFU divides by the peak of the hardware.

In: a `ModelConfig`, tokens, and (query, key) pairs. Out: floating-point operations. No arrays are needed.

A product of a weight costs 2 FLOPs a token forward and 4 backward; a (query, key) pair costs 4 head_dim a head
forward (scores and weighted sum) and 8 backward. This is the count of PaLM (arXiv 2204.02311, appendix B), with
the pairs that causality, documents and windows allow in the place of all seq^2. Padding, what is computed again
in the backward pass, norms, rotations, soft caps and the optimizer are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from jitune.models.config import ModelConfig


def matmul_params(config: ModelConfig) -> int:
    """The weights that every token is multiplied with: the layers' kernels and the head, tied or not.

    Of experts these are the ones that a token is sent to. The embedding look-up, biases and norms are not among them.
    """
    attention = 2 * config.dim * config.head_dim * (config.num_heads + config.num_kv_heads)
    mlp = (3 if config.gated else 2) * config.dim * config.mlp_dim
    if config.num_experts:
        shared = (3 * config.shared_dim + 1) * config.dim if config.shared_dim else 0
        mlp = config.dim * (config.num_experts + 3 * config.experts_per_token * config.expert_dim) + shared
    return config.num_layers * (attention + mlp) + config.dim * config.vocab_size


def active(config: ModelConfig, counts: dict[str, int]) -> int:
    """The sum of parameter counts by path, of experts those alone that a token is sent to.

    {"layers/mlp/experts/up_proj/kernel": 800, "lm_head/kernel": 10} is 110 where 1 of 8 experts is taken.
    """
    return sum(count // config.num_experts * config.experts_per_token if "/experts/" in path else count
               for path, count in counts.items())  # fmt: skip


def count_pairs(lengths: Iterable[int], window: int = 0) -> int:
    """The (query, key) pairs of documents of these lengths in one layer; window 0 is full causal attention.

    The token at position p sees p + 1 keys, at most `window` of them: lengths [3, 2] have 1 + 2 + 3 + 1 + 2 = 9
    pairs, with window 2 they have 1 + 2 + 2 + 1 + 2 = 8.
    """
    total = 0
    for length in lengths:
        near = min(length, window or length)
        total += near * (near + 1) // 2 + (length - near) * near
    return total


def count_all_pairs(config: ModelConfig, lengths: Iterable[int]) -> int:
    """`count_pairs` summed over the layers, each with its own window: the `pairs` that `train_flops` takes."""
    lengths = list(lengths)
    return sum(config.windows.count(window) * count_pairs(lengths, window) for window in set(config.windows))


def train_flops(config: ModelConfig, tokens: float, pairs: float, *, trained: int | None = None, added: int = 0,
                prefix: int = 0) -> float:  # fmt: skip
    """Model FLOPs of the forward and backward pass: of every weight where it is trained, else without its gradient.

    Args:
      tokens: tokens, padding left out.
      pairs: (query, key) pairs, summed over the layers (`count_all_pairs`).
      trained: of the `matmul_params`, those that are trained (see `active`); None: all. A frozen weight costs 4
        FLOPs a token, not 6.
      added: trained weights beside them (LoRA's factors).
      prefix: keys in every layer that every token sees besides.

    Qwen2.5-0.5B (24 layers, 14 heads of 64, the head is the tied embedding) on one document of 1000 tokens:
    6 * 493,961,216 * 1000 = 2.964e12 for the weights; each layer has 500,500 pairs, so 12 * 14 * 64 * 24 *
    500,500 = 0.129e12 for attention; 3.093e12 in all.
    """
    weights = matmul_params(config)
    trained = weights if trained is None else trained
    pairs = pairs + config.num_layers * prefix * tokens
    return (4.0 * weights + 2.0 * trained + 6.0 * added) * tokens + 12.0 * config.num_heads * config.head_dim * pairs


def forward_flops(config: ModelConfig, tokens: float, pairs: float) -> float:
    """Model FLOPs of a forward pass alone, of a teacher beside, say: a third of what `train_flops` counts."""
    return 2.0 * matmul_params(config) * tokens + 4.0 * config.num_heads * config.head_dim * pairs
