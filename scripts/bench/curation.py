"""How long curation takes on real instructions, made many: one JSON line a part.

    PYTHONPATH=. python scripts/bench/curation.py filters
    PYTHONPATH=. python scripts/bench/curation.py minhash --records 50000 --preset datatrove
    PYTHONPATH=. python scripts/bench/curation.py decontaminate --records 50000
    PYTHONPATH=. python scripts/bench/curation.py diversity --records 20000
    PYTHONPATH=. python scripts/bench/curation.py command --records 50000 --stages minhash

`filters` and `command` run `jitune data curate` as users do, with reading, writing and its workers, and tell the wall
time, the CPU seconds of all processes together, and the most memory that all of them held; `filters` runs the ten
stages that look at no model, on 200,000 records. The others run a stage in this process, on one core but for products
of matrices. Records
are those of the Alpaca files below --data, or docstrings of the standard library where there are none. Beyond the
first round each has words of other records in place of a fifth of its own, and one in ten is a near-duplicate with 2 %
replaced.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import emit, peak_rss_mb

FILES = ("sft/cherry_alpaca_5_percent.json", "sft/alpaca_en_demo.json", "sft/alpaca_zh_demo.json",
         "sft/code_alpaca_2k.json")  # fmt: skip
EVALUATIONS = ("eval_utility/gsm8k_test.jsonl", "eval_multilingual/mgsm/mgsm_*.tsv",
               "eval_faithfulness/truthfulqa.csv")  # fmt: skip
CHEAP = "empty,length,encoding,repetition,language,refusal,boilerplate,hallucinated_input,pii,exact"


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("part", choices=("filters", "minhash", "decontaminate", "diversity", "command"))
    p.add_argument("--records", type=int, default=0, help="200,000 for filters, else 50,000")
    p.add_argument("--data", default=str(Path(__file__).parents[3] / "shared" / "data"))
    p.add_argument("--preset", default="datatrove")
    p.add_argument("--rule", default="tulu")
    p.add_argument("--stages", default="minhash", help="of `command`: as in config.stages")
    p.add_argument("--set", default=[], action="append", metavar="minhash.preset=nemo", help="options of `command`")
    a = p.parse_args()
    a.records = a.records or (200_000 if a.part == "filters" else 50_000)
    a.stages = CHEAP if a.part == "filters" else a.stages
    return a


def real(data: str) -> list[tuple[str, str]]:
    """(prompt, answer) of the rows of FILES; docstrings where a file is missing."""
    pairs = []
    for name in FILES:
        path = Path(data) / name
        if not path.exists():
            from data import documented

            return documented(8000)
        for row in json.loads(path.read_text()):
            pairs.append((f"{row['instruction']}\n\n{row.get('input') or ''}".strip(), row["output"]))
    return pairs


def many(pairs: list[tuple[str, str]], count: int):
    """`count` pairs: the real ones, then perturbed ones; characters are replaced where there are no spaces."""
    import numpy as np

    rng = np.random.default_rng(0)
    split = [[text.split(" ") if text.isascii() else list(text) for text in pair] for pair in pairs]
    glue = [[" " if text.isascii() else "" for text in pair] for pair in pairs]
    for i in range(count):
        at = i % len(pairs)
        if i < len(pairs):
            yield pairs[at]
            continue
        share = 0.02 if rng.random() < 0.1 else 0.2
        other = [piece for piece in split[int(rng.integers(len(pairs)))][1] if piece]
        yield tuple(join.join(other[k % len(other)] if other and swap else piece
                              for k, (piece, swap) in enumerate(zip(own, rng.random(len(own)) < share, strict=True)))
                    for own, join in zip(split[at], glue[at], strict=True))  # fmt: skip


def as_records(pairs) -> list:
    from jitune.data.record import Record

    return [Record(f"r{i}", ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer}))
            for i, (prompt, answer) in enumerate(pairs)]


def minhash(a, records) -> dict:
    from jitune.construct.curate.minhash import build

    sieve = build(preset=a.preset)
    start = time.perf_counter()
    keys = [sieve.key(record) for record in records]
    middle = time.perf_counter()
    before, memory = peak_rss_mb(), sieve.memory()
    found = sum(memory.admit(key, record.id) is not None for key, record in zip(keys, records, strict=True) if key)
    end, grew = time.perf_counter(), peak_rss_mb() - before
    again = sieve.memory()
    for key, record in zip(keys, records, strict=True):
        again.restore(key, record.id) if key else None
    return {"preset": a.preset, "seconds": round(end - start, 2), "keys_s": round(middle - start, 2),
            "admit_s": round(end - middle, 2), "restore_s": round(time.perf_counter() - end, 2), "rejected": found,
            "memory_grew_mb": grew}


def decontaminate(a, records) -> dict:
    from jitune.construct.curate.decontaminate import build

    start = time.perf_counter()
    stage = build(against=[str(Path(a.data) / name) for name in EVALUATIONS], rule=a.rule)
    middle = time.perf_counter()
    found = sum(hasattr(stage.judge(record), "reason") for record in records)
    end = time.perf_counter()
    return {"rule": a.rule, "seconds": round(end - start, 2), "index_s": round(middle - start, 2), "rejected": found}


def diversity(a, records) -> dict:
    """Both methods on random vectors of 384 numbers, a tenth as budget."""
    import numpy as np

    from jitune.construct.curate.diversity import facility_in_parts
    from jitune.construct.curate.near import greedy

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(records) // 20 + 1, 384))
    vectors = centres[rng.integers(len(centres), size=len(records))] + 0.5 * rng.normal(size=(len(records), 384))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    start = time.perf_counter()
    kept = int(greedy(vectors, np.arange(len(records)), at_least=0.9).kept.sum())
    middle = time.perf_counter()
    facility_in_parts(vectors, len(records) // 10)
    return {"cosine_s": round(middle - start, 2), "kept": kept, "facility_s": round(time.perf_counter() - middle, 2)}


def tree_rss_mb(pid: int) -> float:
    """Memory of a process and all below it, in MiB; pages that they share are counted for each. 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(tree_rss_mb(int(child)) for child in children)


def command(a, pairs) -> dict:
    """`jitune data curate` in a process of its own, with its workers below it."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        with open(rows, "w") as file:
            for prompt, answer in pairs:
                file.write(json.dumps({"instruction": prompt, "output": answer}, ensure_ascii=False) + "\n")
        words = [f"--config.{word}" for word in (f"input={rows}", f"output_dir={folder}/out", f"stages={a.stages}",
                                                 *a.set)]  # fmt: skip
        start, peak = time.perf_counter(), 0.0
        run = subprocess.Popen([sys.executable, "-m", "jitune", "data", "curate", *words], stdout=sys.stderr)
        while run.poll() is None:
            peak = max(peak, tree_rss_mb(run.pid))
            time.sleep(0.2)
        seconds = time.perf_counter() - start
        if run.returncode:
            sys.exit(f"jitune data curate ended with {run.returncode}")
        done = json.loads((Path(folder) / "out" / "funnel.json").read_text())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    stages = {stage["name"]: stage["cpu_seconds"] for stage in done["stages"]}
    return {"stages": a.stages, "seconds": round(seconds, 2), "cpu_s_of_all": round(used.ru_utime + used.ru_stime, 1),
            "peak_rss_mb_of_all": round(peak), "cores": len(os.sched_getaffinity(0)), "cpu_s_by_stage": stages,
            "kept": done["records"]["kept"]}


def main() -> None:
    a = parse()
    pairs = many(real(a.data), a.records)
    if a.part in ("filters", "command"):
        result = command(a, pairs)
    else:
        records = as_records(pairs)
        characters = statistics.mean(sum(len(m["content"]) for m in record.messages) for record in records)
        result = {"minhash": minhash, "decontaminate": decontaminate, "diversity": diversity}[a.part](a, records)
        result |= {"characters_a_record": round(characters), "peak_rss_mb": peak_rss_mb()}
    emit(part=a.part, records=a.records, **result)


if __name__ == "__main__":
    main()
