"""Tasks of lm-evaluation-harness on jitune's engine, or on the harness's own Hugging Face model. One JSON line.

    python scripts/bench/harness.py --backend jitune --kind choices      # a context, four endings of 8 to 50 tokens
    python scripts/bench/harness.py --backend hf --kind letters          # a question, four letters; --shots 5
    python scripts/bench/harness.py --backend hf --kind generate --batch_size 16

Both get the same requests through the harness's interface, texts that they tokenize themselves; a timed step is a pass
over all of them. Texts are random words, a token each, whose counts are those of HellaSwag, MMLU and GSM8K. `check` is
the sum of log-likelihoods or a digest of the answers, by which the two can be compared. The model is made where its
folder is not there; it is random, so no answer ends early.
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

from common import WORKLOADS, emit, peak_rss_mb, time_steps

# Tokens of a context in the median, and the spread of their logarithms.
LENGTHS = {"choices": (60, 0.5), "letters": (100, 0.5), "generate": (60, 0.4)}


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--backend", choices=("jitune", "hf"), required=True)
    p.add_argument("--kind", choices=LENGTHS, required=True)
    p.add_argument("--model", default="build/bench_model", help="its folder")
    p.add_argument("--workload", choices=WORKLOADS, default="main")
    p.add_argument("--documents", type=int, default=64)
    p.add_argument("--shots", type=int, default=0, help="examples in front of each context, the same for all")
    p.add_argument("--new", type=int, default=64, help="tokens of an answer")
    p.add_argument("--batch_size", type=int, default=8)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--warmup", type=int, default=0)
    p.add_argument("--give_back", action="store_true", help="let malloc give pages back")
    p.add_argument("--cache", action="store_true", help="use the persistent compilation cache, as jitune eval does")
    p.add_argument("--tag", default="")
    return p.parse_args()


def make(path: Path, workload: str) -> None:
    """Saves a random model with a tokenizer of one word a token, in Hugging Face's layout."""
    import jax
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from jitune.hub import weights
    from jitune.models import decoder
    from jitune.models.config import ModelConfig
    from jitune.types import Pretrained

    sizes = WORKLOADS[workload][0]
    words = {"<end>": 0, "<unknown>": 1, **{f"w{i}": i for i in range(2, sizes["vocab_size"])}}
    words = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")
    config = ModelConfig.from_hf({"model_type": "llama", "max_position_embeddings": 2048, "eos_token_id": 0, **sizes})
    model = decoder.build(config)
    weights.save(path, Pretrained(model, jax.jit(model.init)(jax.random.key(0)), tokenizer, config))


def make_requests(a) -> list[tuple]:
    """Arguments of the harness's requests: (context, continuation), or (context, options of generation)."""
    import numpy as np

    rng, size = np.random.default_rng(0), WORKLOADS[a.workload][0]["vocab_size"]

    def text(count):
        return " ".join(f"w{i}" for i in rng.integers(2, size, int(count)))

    def context():
        median, spread = LENGTHS[a.kind]
        return text(np.clip(rng.lognormal(np.log(median), spread), 8, 400))

    shots = "".join(context() + "\n\n" for _ in range(a.shots))
    contexts = [shots + context() for _ in range(a.documents)]
    if a.kind == "generate":
        return [(c, {"until": [], "max_gen_toks": a.new, "do_sample": False}) for c in contexts]
    if a.kind == "letters":
        return [(c, f" w{10 + letter}") for c in contexts for letter in range(4)]
    return [(c, " " + text(np.clip(rng.normal(25, 8), 8, 50))) for c in contexts for _ in range(4)]


def open_jitune(a):
    """jitune's model for the harness."""
    from jitune import compile_cache
    from jitune.evals.engine.engine import open_engine
    from jitune.evals.harness import make_model
    from jitune.evals.progress import Bars
    from jitune.host_memory import keep_pages
    from jitune.hub import weights

    if not a.give_back:
        keep_pages()
    if a.cache:
        compile_cache.use_cache()
    engine = open_engine(weights.load(a.model, dtype="float32"), batch_size=a.batch_size)
    return make_model(engine, None, Bars(shown=False)), engine


def open_hf(a):
    """The harness's own model."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=a.model, device="cpu", dtype="float32", batch_size=a.batch_size), None


def main(a):
    if not (Path(a.model) / "config.json").exists():
        make(Path(a.model), a.workload)
    from lm_eval.api.instance import Instance

    requests = make_requests(a)
    model, engine = (open_jitune if a.backend == "jitune" else open_hf)(a)
    kind = "generate_until" if a.kind == "generate" else "loglikelihood"
    instances = [Instance(kind, {}, arguments, i) for i, arguments in enumerate(requests)]
    found, first = [], []

    def step():
        start = time.perf_counter()
        found[:] = getattr(model, kind)(instances, disable_tqdm=True)
        first.append(time.perf_counter() - start)
        print(f"{first[-1]:.2f} s", file=sys.stderr, flush=True)

    timed = time_steps(step, a.steps, a.warmup)
    if a.kind == "generate":
        # White space is decoded differently.
        check = hashlib.sha256(" ".join(word for answer in found for word in answer.split()).encode()).hexdigest()[:12]
        tokens = sum(len(answer.split()) for answer in found)
    else:
        check = round(sum(logprob for logprob, _ in found), 2)
        tokens = sum(len((c + d).split()) for c, d in requests)
    emit(backend=a.backend, kind=a.kind, shots=a.shots, batch_size=a.batch_size, tag=a.tag, check=check,
         tokens=tokens, tokens_per_s=round(tokens / timed["step_s"], 1), requests=len(requests),
         requests_per_s=round(len(requests) / timed["step_s"], 2), first_pass_s=round(first[0], 2),
         compiles=engine.stats["compiles"] if engine else 0, peak_rss_mb=peak_rss_mb(), **timed)  # fmt: skip


if __name__ == "__main__":
    main(parse())
