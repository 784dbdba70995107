"""Folders of evaluations that never ran: all tasks of the catalogue, with scores of our own, before and after.

    make_eval(folder / "base"); make_eval(folder / "tuned", gain=0.1)     # the same documents, other answers
"""

import json
import random
from pathlib import Path

from jitune.evals.aggregate import summarize
from jitune.evals.catalogue import SUITES
from jitune.evals.task import Document, Generate, Metric, Outcome, Task

HOSTILE = '<script>alert("1")</script> </details> & <b>'
LANGUAGES = {"mgsm": "bn de en es fr ja ru sw te th zh", "xcopa": "et ht id it qu sw ta th tr vi zh",
             "multijail": "ar bn en it jv ko sw th vi zh", "lawbench": "zh", "xstest": "en de"}
DOMAINS = {"pubmedqa": "medicine", "legalbench": "law", "lawbench": "law", "tatqa": "finance", "humaneval": "code"}
LOWER = ("advbench", "harmbench", "strongreject", "multijail", "toxicity")
KINDS = {"bbh": "date navigate snarks sports words", "bbq": "age gender race religion",
         "legalbench": "hearsay contracts privacy", "begin": "cmu topical wow"}
CHANCE = {"pubmedqa": 1 / 3, "xcopa": 0.5, "truthfulqa_mc": 0.2253, "bbq": 1 / 3, "halueval": 0.5}
PROMPTS = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips "
    "did Natalia sell altogether in April and May? Think step by step and give the number at the end.",
    "¿Cuántos clips vendió Natalia en total en abril y mayo?", "ما هو عدد المشابك التي باعتها ناتاليا (in total)؟",
    "娜塔莉亚在四月和五月总共卖了多少个夹子？",
)


def task_of(name: str, axis: str) -> Task:
    """A task with two or three metrics."""
    better = "lower" if name in LOWER else "higher"
    first = Metric("accuracy" if better == "higher" else "attack_success", "answers that are right" if better ==
                   "higher" else "answers that do what was asked", better=better, worst=0.0 if better == "higher" else
                   1.0, chance=CHANCE.get(name))
    more = (Metric("words", "words in the answer", unit="", better="lower"),)
    if name == "open_ended":
        first, more = Metric("grade", "the judge's grade, 1 to 10", unit="", needs="judge"), more
    if name == "pubmedqa":
        more += (Metric("spread", "a number over the whole set", corpus=spread),)
    if name == "xstest":
        more += (Metric("judged", "refusals as the judge sees them", needs="classifier"),)
    return Task(name, axis=axis, title=f"{name.replace('_', ' ').capitalize()}, made up", load=lambda specs: [],
                score=lambda d, r, v: Outcome({}), metrics=(first, *more), source="a paper",
                domain=DOMAINS.get(name, "general"))


def spread(documents, outcomes):
    known = [o.scores["accuracy"] for o in outcomes if o.scores["accuracy"] is not None]
    return sum(known) / len(known) if known else None


def documents_of(name: str, count: int) -> list[Document]:
    """The same in every run."""
    languages, kinds = LANGUAGES.get(name, "en").split(), KINDS.get(name, "").split()
    found = []
    for i in range(count):
        tags = {"language": languages[i % len(languages)]} | ({"kind": kinds[i % len(kinds)]} if kinds else {})
        tags |= {"domain": ("law", "medicine", "finance", "general")[i % 4]} if name == "grounded_qa" else {}
        found.append(Document(f"{name}/{i}", {"i": i, "task": name}, (Generate(PROMPTS[i % 4]),), tags,
                              cluster=str(i // len(languages)) if len(languages) > 1 else "", target=str(i % 9)))
    return found


def make_eval(directory: Path, *, gain: float = 0.0, count: int = 60, seed: int = 0, only: str = "") -> Path:
    """Fills `directory`; gain: how much likelier a right answer is. only: the words of some tasks."""
    (directory / "samples").mkdir(parents=True)
    names = {n: axis for axis, suite in SUITES.items() for n in suite if not only or n in only.split()}
    tasks = {n: make_task(directory, n, axis, gain * (-0.6 if axis == "safety" else 1), count, f"{seed}{n}{gain}")
             for n, axis in names.items()}
    results = {
        "format": 1, "jitune": "0.3.0", "created": "2026-05-01T12:00:00+00:00",
        "model": {"path": "models/Llama-3.2-1B-Instruct", "digest": "5b3f0c9a7d1e2f48", "parameters": 1235814400,
                  "adapter": "runs/alpaca/final" if gain else None, "family": "llama"},
        "settings": {"chat_template": "9a1b2c3d4e5f6071", "max_length": 2048, "dtype": "bfloat16", "limit": count,
                     "seed": 0, "judge": {"model": "judge-large", "temperature": 0.0}},
        "tasks": tasks, "skipped": {"medmcqa": "no files medmcqa*.jsonl in the data folder"},
        "engine": {"requests": 1500, "unique": 1480, "input_tokens": 412345, "padding": 0.12, "truncated": 3,
                   "seconds": 312.4, "compiles": 9},
        "judge": {"model": "judge-large", "calls": 240, "cached": 12, "failed": 4, "input_tokens": 96000,
                  "output_tokens": 14000, "cost": 0.42},
    }
    (directory / "results.json").write_text(json.dumps(results))
    return directory


def make_task(directory: Path, name: str, axis: str, gain: float, count: int, seed: str) -> dict:
    """Writes a task's samples; returns its entry."""
    task, documents, r = task_of(name, axis), documents_of(name, count), random.Random(seed)
    right = random.Random(name).uniform(0.25, 0.8)
    rows, outcomes = [], []
    for i, d in enumerate(documents):
        luck = random.Random(f"{name}{i}").random()  # what makes a document hard in every run
        good = 0.8 * luck + 0.2 * r.random() < right + gain
        failure = "extraction" if r.random() < (0.12 if name == "bbh" else 0.03) else ""
        headline = task.metrics[0].name
        best = (1 + 9 * r.random()) if headline == "grade" else float(good if headline == "accuracy" else not good)
        scores = {headline: None if failure else best, "words": float(r.randint(4, 60))}
        text = f"She sold {i % 9} clips. " * r.randint(1, 60) + (HOSTILE if i == 0 else "")
        answer = None if failure else str(i % 9 if good else (i + 1) % 9)
        outcome = Outcome(scores, answer, failure)
        outcomes.append(outcome)
        rows.append({"id": d.id, "document": d.hash, "prompt_hash": d.hash, "tags": dict(d.tags), "cluster": d.cluster,
                     "prompt": d.requests[0].prompt, "target": d.target, "responses": responses(name, text, r),
                     "verdicts": [{"value": "[[7]]", "failure": ""}] if name == "open_ended" else [],
                     "answer": answer, "scores": scores, "failure": failure, "details": {}})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (directory / "samples" / f"{name}.jsonl").write_text(lines)
    entry = summarize(task, documents, outcomes, available={"judge"})
    return entry | {"prompts": "0123456789abcdef", "truncated": 3 * (name == "tatqa"), "seconds": 12.5}


def responses(name: str, text: str, r: random.Random) -> list[dict]:
    """What a model gave: log-likelihoods of choices, or texts."""
    if name in ("xcopa", "truthfulqa_mc", "bbq"):
        return [{"logprob": -r.uniform(5, 40), "greedy": i == 0, "tokens": 7, "truncated": 0} for i in range(3)]
    return [{"text": text, "finish_reason": "stop", "tokens": 50, "truncated": 0}] * (5 if name == "selfcheck" else 1)
