"""What constructing data costs.

    PYTHONPATH=. python scripts/bench/construct.py rouge --pool 20000 --candidates 1000

`rouge` asks, for each candidate, which of a pool of instructions is most like it by ROUGE-L, as Self-Instruct's filter
does, and lets it join the pool where none is over 0.7. Instructions are those of the files below --data, or docstrings
of the standard library where there are none; beyond them, instructions with a part of their words replaced. With
--check so many verdicts are compared with rouge-score's, over all pairs.
"""

import argparse
import json
import random
import time
from pathlib import Path

from common import emit, peak_rss_mb

FILES = ("sft/cherry_alpaca_5_percent.json", "sft/alpaca_en_demo.json", "sft/alpaca_zh_demo.json",
         "sft/code_alpaca_2k.json")  # fmt: skip


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("part", choices=("rouge",))
    p.add_argument("--pool", type=int, default=20_000)
    p.add_argument("--candidates", type=int, default=1_000)
    p.add_argument("--mode", default="english", choices=("english", "unicode"))
    p.add_argument("--check", type=int, default=0, help="candidates that rouge-score judges too")
    p.add_argument("--data", default=str(Path(__file__).parents[3] / "shared" / "data"))
    return p.parse_args()


def instructions(data: str, count: int) -> list[str]:
    """`count` instructions, real ones first."""
    found = []
    for name in FILES:
        path = Path(data) / name
        if not path.exists():
            from data import documented

            found = [prompt for prompt, _ in documented(8000)]
            break
        found += [row["instruction"] for row in json.loads(path.read_text())]
    rng = random.Random(0)
    found = list(dict.fromkeys(found))
    rng.shuffle(found)
    words = [word for text in found for word in text.split()]
    real = len(found)
    while len(found) < count:
        text = found[rng.randrange(real)].split()
        share = rng.choice((0.2, 0.5, 0.8))
        found.append(" ".join(rng.choice(words) if rng.random() < share else word for word in text))
    rng.shuffle(found)
    return found[:count]


def rouge(a) -> dict:
    """Seconds for all candidates against the pool, which grows."""
    from jitune.construct.distill.rouge import Pool

    texts = instructions(a.data, a.pool + a.candidates)
    there, new = texts[: a.pool], texts[a.pool :]
    began = time.perf_counter()
    pool = Pool(0.7, a.mode, there)
    filled = time.perf_counter()
    found = [pool.admit(text) for text in new]
    done = time.perf_counter()
    right = agreeing(there, new[: a.check], found) if a.check else None
    return {"pool": a.pool, "candidates": len(new), "mode": a.mode, "refused": sum(one is not None for one in found),
            "fill_seconds": round(filled - began, 3), "seconds": round(done - filled, 3),
            "per_second": round(len(new) / (done - filled)), "checked": a.check, "equal": right}  # fmt: skip


def agreeing(there: list[str], new: list[str], found: list) -> int:
    """How many of the first verdicts are rouge-score's."""
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    cut, right = [scorer._tokenizer.tokenize(text) for text in there], 0
    for text, mine in zip(new, found, strict=False):
        tokens = scorer._tokenizer.tokenize(text)
        best = max(rouge_scorer._score_lcs(tokens, other).fmeasure for other in cut)
        right += (mine is None and best <= 0.7) or (mine is not None and mine.score == best)
        if best <= 0.7:
            cut.append(tokens)
    return right


if __name__ == "__main__":
    given = parse()
    emit(bench=f"construct.{given.part}", **rouge(given), peak_rss_mb=peak_rss_mb())
