"""Greedy decoding beside transformers' `generate`: the same weights, the same tokens, in turns in one process.

    python scripts/bench/decode.py --batch 1 8 --rounds 9          # the benchmark model, 128 new tokens from 32

One JSON line a batch size. ours, theirs: tokens/s, medians over the rounds; ratio: the median of the rounds' ratios,
with its quartiles; best_ratio: of each one's fastest round; cpu_ratio: of CPU seconds, which neighbours on a busy
machine stretch less; others: CPUs that other processes had meanwhile. They take turns at going first. Both run in
float32 on `--threads` threads, warmed up; transformers as its `generate` is by default. Answers are compared token by
token.
"""

import argparse
import os
import statistics
import tempfile
import time

from common import WORKLOADS, emit, machine_seconds


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--workload", choices=[*WORKLOADS, "experts"], default="main",
                   help="experts: those of the small preset of qwen3_moe, with main's vocabulary")
    p.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    p.add_argument("--length", type=int, default=32, help="tokens of a prompt")
    p.add_argument("--new", type=int, default=128, help="tokens of an answer")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--kv_cache", default="", help="int8: keys and values in 8 bits")
    p.add_argument("--alone", action="store_true", help="without transformers: only our time")
    return p.parse_args()


def clocked(function):
    """(seconds, CPU seconds of all threads, value)."""
    before, began = os.times(), time.perf_counter()
    value = function()
    after, ended = os.times(), time.perf_counter()
    return ended - began, after.user + after.system - before.user - before.system, value


def make_peer(directory: str, shapes: dict, threads: int, new: int):
    """A random transformers model, written to the directory; `(prompts) -> answers` by its `generate`."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    none = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    config = {"max_position_embeddings": 2048, **shapes, **none}
    family = "Qwen3Moe" if "num_experts" in shapes else "Llama"
    model = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**config)).eval()
    model.save_pretrained(directory)

    def answer(prompts):
        tokens = torch.tensor(prompts)
        with torch.inference_mode():
            out = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new, do_sample=False)
        return out[:, tokens.shape[1] :].tolist()

    return answer


def summary(ours: list, theirs: list, tokens: int) -> dict:
    """What is printed of (seconds, CPU seconds, ...) of each round."""
    found = {"ours": round(tokens / statistics.median(x[0] for x in ours), 1),
             "ours_cpu_s": round(statistics.median(x[1] for x in ours), 3)}
    if theirs:
        ratios = [b[0] / a[0] for a, b in zip(ours, theirs, strict=True)]
        found |= {
            "theirs": round(tokens / statistics.median(x[0] for x in theirs), 1),
            "theirs_cpu_s": round(statistics.median(x[1] for x in theirs), 3),
            "ratio": round(statistics.median(ratios), 3),
            "quartiles": [round(x, 3) for x in statistics.quantiles(ratios)[::2]] if len(ratios) > 1 else None,
            "best_ratio": round(min(x[0] for x in theirs) / min(x[0] for x in ours), 3),
            "cpu_ratio": round(statistics.median(b[1] / a[1] for a, b in zip(ours, theirs, strict=True)), 3),
        }
    return found


def main():
    a = parse()
    import numpy as np

    from jitune.generation.generate import generate
    from jitune.hub import weights
    from jitune.models.presets import QWEN3_MOE

    experts = {**QWEN3_MOE["small"], "vocab_size": WORKLOADS["main"][0]["vocab_size"]}
    shapes = experts if a.workload == "experts" else WORKLOADS[a.workload][0]
    with tempfile.TemporaryDirectory() as directory:
        peer = make_peer(directory, shapes, a.threads, a.new)
        model, params, _, _ = weights.load(directory, dtype="float32")
    more = {"kv_cache": a.kv_cache} if a.kv_cache else {}
    for batch in a.batch:
        prompts = np.random.default_rng(0).integers(3, shapes["vocab_size"], (batch, a.length)).tolist()

        def answer(prompts=prompts, batch=batch):
            found = generate(model, params, None, prompts, max_new_tokens=a.new, batch_size=batch, **more)
            return [g.tokens for g in found]

        expected, got, ours, theirs = None if a.alone else peer(prompts), answer(), [], []
        same = None if a.alone else sum(x == y for x, y in zip(expected, got, strict=True))
        if not a.alone and not a.kv_cache and same != batch:
            raise SystemExit(f"batch {batch}: {batch - same} of the answers differ from transformers'")
        turns = [(ours, answer)] if a.alone else [(theirs, lambda prompts=prompts: peer(prompts)), (ours, answer)]
        before, began = machine_seconds(), time.perf_counter()
        for i in range(a.rounds):
            for found, function in turns[:: 1 if i % 2 else -1]:
                found.append(clocked(function))
        busy, own = (now - then for now, then in zip(machine_seconds(), before, strict=True))
        others = round((busy - own) / (time.perf_counter() - began), 2)
        emit(workload=a.workload, batch=batch, new=a.new, n=a.rounds, same_answers=same, kv_cache=a.kv_cache,
             others=others, **summary(ours, theirs, batch * a.new))


if __name__ == "__main__":
    main()
