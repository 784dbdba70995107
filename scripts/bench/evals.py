"""The evaluation engine on random tokens, beside the forward of training. One JSON line: tokens/s, padding, compiles.

    python scripts/bench/evals.py --workload main --rounds 7
    python scripts/bench/evals.py --task letters       # one token a choice, four choices a context; or texts, rolling

Both forwards take turns: the engine scores a multiple-choice task, and training's (hidden states and loss, no gradient)
runs over full packed batches, so that the machine's drift meets both alike. tokens/s counts tokens that were computed,
`asked` those of all requests, of which the engine shares what is equal. cpu_ratio is of CPU seconds, which neighbours
on a busy machine stretch less.
"""

import argparse
import os
import statistics
import time

from common import WORKLOADS, emit, peak_rss_mb

TASKS = ("texts", "letters", "rolling")


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--workload", choices=WORKLOADS, default="main")
    p.add_argument("--task", choices=TASKS, default="texts")
    p.add_argument("--documents", type=int, default=60)
    p.add_argument("--length", type=int, default=150, help="tokens of a context, in the median")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--dtype", default="float32")
    p.add_argument("--generate", type=int, default=0, metavar="N", help="time answers of 64 tokens to N prompts")
    return p.parse_args()


def make_pairs(a, vocab: int):
    """(context, continuation) ids: contexts of log-normal lengths with four continuations of 1 to 30 tokens."""
    import numpy as np

    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(a.documents):
        context = rng.integers(3, vocab, int(np.clip(rng.lognormal(np.log(a.length), 0.5), 8, 1500))).tolist()
        if a.task == "rolling":
            pairs.append((context[:1], context[1:]))
            continue
        for choice in range(4):
            count = int(rng.integers(1, 31)) if a.task == "texts" else 1
            pairs.append((context, [choice + 3] + rng.integers(3, vocab, count - 1).tolist()))
    return pairs


def forward_of(model, params, rows: int, seq: int, vocab: int):
    """The forward of training over one full batch, compiled."""
    import jax
    import numpy as np

    from jitune.objectives.sft import sft

    tokens = np.random.default_rng(0).integers(3, vocab, (rows, seq + 1), np.int32)
    batch = {
        "tokens": tokens[:, :-1], "targets": tokens[:, 1:], "loss_weights": np.ones((rows, seq), np.float32),
        "segment_ids": np.ones((rows, seq), np.int32),
        "positions": np.broadcast_to(np.arange(seq, dtype=np.int32), (rows, seq)),
    }
    objective = sft()
    compiled = jax.jit(lambda params, batch: objective(model, params, batch, None)[0])
    return lambda: float(compiled(params, batch))


def seconds(function) -> tuple[float, float]:
    """(seconds, CPU seconds of this process) of one call."""
    start, before = time.perf_counter(), os.times()
    function()
    after = os.times()
    return time.perf_counter() - start, after.user + after.system - before.user - before.system


def main(a):
    import jax

    from jitune.evals.engine.engine import open_engine
    from jitune.host_memory import keep_pages
    from jitune.models import decoder
    from jitune.models.config import ModelConfig
    from jitune.types import Pretrained

    keep_pages()
    sizes, rows, seq = WORKLOADS[a.workload]
    config = ModelConfig.from_hf({"model_type": "llama", "max_position_embeddings": 2048, **sizes})
    config = config.replace(dtype=a.dtype, param_dtype=a.dtype)
    model = decoder.build(config)
    params = jax.jit(model.init)(jax.random.key(0))
    engine = open_engine(Pretrained(model, params, NoTokenizer(), config))
    pairs, forward = make_pairs(a, config.vocab_size), forward_of(model, params, rows, seq, config.vocab_size)
    engine.score_tokens(pairs)
    forward()
    computed = engine.stats["input_tokens"]
    steps = max(1, round(computed / (rows * seq)))
    pace, work = [], []
    for _ in range(a.rounds):
        own = seconds(lambda: engine.score_tokens(pairs))
        other = seconds(lambda: [forward() for _ in range(steps)])
        pace.append((computed / own[0], steps * rows * seq / other[0]))
        work.append(computed / own[1] / (steps * rows * seq / other[1]))
    answers = generate(engine, a, config.vocab_size) if a.generate else {}
    asked = sum(len(c) + len(d) - 1 for c, d in pairs)
    ratios = [x / y for x, y in pace]
    emit(workload=a.workload, task=a.task, tokens_per_s=round(statistics.median(x for x, _ in pace), 1),
         training_forward=round(statistics.median(y for _, y in pace), 1), ratio=round(statistics.median(ratios), 3),
         ratios=[round(min(ratios), 3), round(max(ratios), 3)], cpu_ratio=round(statistics.median(work), 3),
         asked_per_computed=round(asked / computed, 3),
         padding=round(engine.stats["padding"], 4), compiles=engine.stats["compiles"], peak_rss_mb=peak_rss_mb(),
         **answers)


def generate(engine, a, vocab: int) -> dict:
    """Tokens/s of greedy answers, prompts included in the time."""
    import numpy as np

    rng = np.random.default_rng(1)
    prompts = [rng.integers(3, vocab, int(rng.integers(20, 300))).tolist() for _ in range(a.generate)]
    engine.generate_tokens(prompts[:1], max_new_tokens=64)
    took, _ = seconds(lambda: engine.generate_tokens(prompts, max_new_tokens=64))
    return {"generated_per_s": round(64 * len(prompts) / took, 1)}


class NoTokenizer:
    """What the engine asks of a tokenizer where everything is token ids."""

    chat_template = eos_token_id = bos_token_id = None

    def decode(self, ids, **_):
        return ""


if __name__ == "__main__":
    main(parse())
