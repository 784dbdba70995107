"""Speculative decoding: tokens/s with a draft beside the target's own, as the draft agrees more or less.

    python scripts/bench/speculative.py --workload main --width 128 --layers 2 --scales 0 0.1 0.2 --draft_tokens 4

The target has the draft inside: the draft's weights, filled up with zeros, and `scale` times random ones. So the draft
agrees with it as much as is wanted, while both cost what models of their sizes cost; with scale 0 every proposal is
accepted. One JSON
line a scale: plain and speculative, tokens/s, of medians, in turn; speedup; acceptance, of proposals; per_forward,
tokens of a forward of the target; break_even: the tokens of a forward at which both are equally fast.
"""

import argparse
import statistics
import time

from common import WORKLOADS, emit


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--workload", choices=WORKLOADS, default="main")
    p.add_argument("--width", type=int, default=128, help="of the draft")
    p.add_argument("--layers", type=int, default=2, help="of the draft")
    p.add_argument("--scales", type=float, nargs="+", default=[0.0, 0.1, 0.2, 0.4])
    p.add_argument("--draft_tokens", type=int, default=4)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--length", type=int, default=32, help="tokens of a prompt")
    p.add_argument("--new", type=int, default=128, help="tokens of an answer")
    p.add_argument("--temperature", type=float, default=0.0)
    p.add_argument("--rounds", type=int, default=3)
    return p.parse_args()


def around(small, big, scale: float, ratio: float):
    """Parameters of the big model's shapes that compute what the small ones do, and `scale` times `big` besides.

    ratio: of the widths, by whose root a norm over mostly empty features is too large.
    """
    import jax
    import jax.numpy as jnp

    def one(path, inner, outer):
        if "scale" in str(path[-1]):  # of a norm
            return jnp.full_like(outer, ratio**0.5)
        padded = jnp.pad(inner, [(0, n - m) for n, m in zip(outer.shape, inner.shape, strict=True)])
        return padded + scale * outer

    return jax.tree_util.tree_map_with_path(one, small, big)


def main():
    a = parse()
    import jax
    import numpy as np

    from jitune.generation.generate import generate
    from jitune.generation.sampling import Sampling
    from jitune.generation.speculative import generate_speculative
    from jitune.models import decoder
    from jitune.models.config import ModelConfig
    from jitune.types import Pretrained

    shapes = WORKLOADS[a.workload][0]
    parts = shapes["hidden_size"] // a.width
    cut = ("intermediate_size", "num_attention_heads", "num_key_value_heads")
    less = {"hidden_size": a.width, "num_hidden_layers": a.layers, **{name: shapes[name] // parts for name in cut}}
    # Larger weights than fresh models have: what they say then depends on what they read.
    raw = {"model_type": "llama", "max_position_embeddings": 2048, "initializer_range": 0.1, **shapes}
    configs = [ModelConfig.from_hf(x) for x in (raw, {**raw, **less})]
    models = [decoder.build(config) for config in configs]
    big, small = (jax.jit(model.init)(jax.random.key(i)) for i, model in enumerate(models))
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, raw["vocab_size"], (a.batch, a.length)).tolist()
    options = {"max_new_tokens": a.new, "batch_size": a.batch, "sampling": Sampling(temperature=a.temperature)}
    draft = Pretrained(models[1], small, None, configs[1])

    def timed(function):
        began = time.perf_counter()
        return function(), a.batch * a.new / (time.perf_counter() - began)

    for scale in a.scales:
        params = jax.jit(around, static_argnums=3)(small, big, scale, a.width / shapes["hidden_size"])
        target = Pretrained(models[0], params, None, configs[0])
        plain, fast = [], []
        for turn in range(a.rounds + 1):
            own, one = timed(lambda target=target: generate(*target[:2], None, prompts, **options))
            (answers, told), other = timed(lambda target=target: generate_speculative(
                target, draft, prompts, draft_tokens=a.draft_tokens, **options))
            if turn:  # the first compiles
                plain.append(one)
                fast.append(other)
        same = [x.tokens for x in own] == [x.tokens for (x,) in answers]
        speedup = statistics.median(fast) / statistics.median(plain)
        emit(workload=a.workload, width=a.width, layers=a.layers, scale=scale, draft_tokens=a.draft_tokens,
             batch=a.batch, plain=round(statistics.median(plain), 1), speculative=round(statistics.median(fast), 1),
             speedup=round(speedup, 2), acceptance=round(told.acceptance, 3), n=a.rounds,
             per_forward=round(told.tokens_per_forward, 2), break_even=round(told.tokens_per_forward / speedup, 2),
             **({} if a.temperature else {"same": same}))


if __name__ == "__main__":
    main()
