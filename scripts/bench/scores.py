"""Scores of curation on a model of one's own, beside the forward of training. One JSON line a score.

    python scripts/bench/scores.py --model models/small --data data.jsonl --records 256

tokens/s counts tokens that the model computed, texts rendered and tokenized in the time; the forward of training runs
over full packed batches, in turn with it. cpu_ratio is of CPU seconds, which neighbours on a busy machine stretch less.
"""

import argparse
import statistics

from common import emit, peak_rss_mb
from evals import forward_of, seconds


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True, help="a file of instruction data")
    p.add_argument("--records", type=int, default=256)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--rows", type=int, default=4, help="of a batch of training")
    p.add_argument("--seq", type=int, default=512)
    p.add_argument("--dtype", default="float32")
    p.add_argument("--scores", nargs="+", default=["ifd", "ifd_ppl", "perplexity", "deita", "embed"])
    return p.parse_args()


def main(a):
    from jitune.construct.curate.scores import deita, ifd, perplexity
    from jitune.construct.curate.scores.embed import embed_texts
    from jitune.construct.curate.scores.model import open_scorer
    from jitune.data.formats import to_example
    from jitune.data.record import all_texts, from_example
    from jitune.data.sources import read_rows
    from jitune.host_memory import keep_pages

    keep_pages()
    rows = [row for _, row in zip(range(a.records), read_rows(a.data), strict=False)]
    records = [from_example(to_example(row, origin)) for row, origin in rows]
    engines = {length: open_scorer(a.model, dtype=a.dtype, usual=length) for length in (512, 1024, 2048)}
    model, params, _, config = engines[512].pretrained
    forward = forward_of(model, params, a.rows, a.seq, config.vocab_size)
    forward()
    work = {
        "ifd": (512, lambda engine: ifd.measure(engine, records)),
        "ifd_ppl": (1024, lambda engine: ifd.measure(engine, records, prompt="plain", max_length=engine.limit)),
        "perplexity": (1024, lambda engine: perplexity.measure(engine, records, max_length=engine.limit)),
        "deita": (2048, lambda engine: deita.measure(engine, records, max_length=engine.limit)),
        "embed": (1024, lambda engine: embed_texts(engine, ["\n".join(all_texts(r)) for r in records])),
    }
    for name in a.scores:
        measure(a, name, *work[name], engines, forward, len(records))


def measure(a, name, length, score, engines, forward, count):
    """Prints one score's figures."""
    engine, programs = engines[length], engines[length].stats["compiles"]
    score(engine)
    compiled = engine.stats["compiles"] - programs
    before = engine.stats["input_tokens"]
    pace, ratios, work = [], [], []
    for _ in range(a.rounds):
        start = engine.stats["input_tokens"]
        wall, cpu = seconds(lambda: score(engine))
        computed = engine.stats["input_tokens"] - start
        steps = max(1, round(computed / (a.rows * a.seq)))
        wall_2, cpu_2 = seconds(lambda steps=steps: [forward() for _ in range(steps)])
        trained = steps * a.rows * a.seq
        pace.append((computed / wall, trained / wall_2, count / wall))
        ratios.append(pace[-1][0] / pace[-1][1])
        work.append(computed / cpu / (trained / cpu_2))
    emit(score=name, records=count, records_per_s=round(statistics.median(x for *_, x in pace), 1),
         tokens_per_s=round(statistics.median(x for x, *_ in pace)),
         training_forward=round(statistics.median(x for _, x, _ in pace)),
         ratio=round(statistics.median(ratios), 3), cpu_ratio=round(statistics.median(work), 3), compiles=compiled,
         tokens=round((engine.stats["input_tokens"] - before) / a.rounds), padding=round(engine.stats["padding"], 3),
         peak_rss_mb=peak_rss_mb())


if __name__ == "__main__":
    main(parse())
