"""Perplexity of texts of yours. In: rows of `text` (or `content`), or a .txt file, which is one text.

`perplexity:FILE` gives, with LL the log-likelihood in nats of all tokens of all texts, in windows of the context:

    word_perplexity = exp(-LL / words)      words: what stands between white space
    byte_perplexity = exp(-LL / bytes)      bytes: of UTF-8
    bits_per_byte   = -LL / (bytes ln 2)

All three are of the whole set, and none depends on how a tokenizer cuts the texts, as lm-evaluation-harness has them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jitune.evals import rows
from jitune.evals.task import Document, Metric, Outcome, Response, Rolling, Task
from jitune.types import UserError


def _rate(outcomes: Sequence[Outcome], unit: str) -> float:
    """Nats a word or a byte."""
    return -sum(o.details["logprob"] for o in outcomes) / sum(o.details[unit] for o in outcomes)


def perplexity(documents: Sequence[Document], outcomes: Sequence[Outcome], *, unit: str) -> float | None:
    """exp of the nats a word or a byte over the set; None where that is beyond a float."""
    rate = _rate(outcomes, unit)
    return math.exp(rate) if rate < 700 else None


def bits_per_byte(documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float:
    """Of the set."""
    return _rate(outcomes, "bytes") / math.log(2)


METRICS = (
    Metric("bits_per_byte", "bits a byte of UTF-8", better="lower", unit="", corpus=bits_per_byte),
    Metric("word_perplexity", "perplexity a word", better="lower", unit="", corpus=partial(perplexity, unit="words")),
    Metric("byte_perplexity", "perplexity a byte", better="lower", unit="", corpus=partial(perplexity, unit="bytes")),
)


def make(argument: str) -> Task:
    """The task of a file, or of a dataset on the hub."""
    name = Path(argument).name
    return Task(f"perplexity:{name}", axis="utility", title=f"Perplexity, {name}", load=load, score=score,
                metrics=METRICS, hub=(argument,), source="lm-evaluation-harness")


def load(specs: Sequence[str]) -> list[Document]:
    """One document a text."""
    documents = []
    for i, (row, where) in enumerate(rows.read(specs)):
        text = rows.need(row, "content" if "text" not in row and "content" in row else "text", where)
        if not text.strip():
            raise UserError(f"{where}: text is white space")
        tags = {k: str(row[k]) for k in ("language", "domain") if row.get(k)}
        documents.append(Document(id=str(row.get("id") or i), row={"text": text}, requests=(Rolling(text),), tags=tags))
    return documents


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple) -> Outcome:
    """Bits a byte of one text; `details` have what the set's numbers are made of."""
    logprob, text = responses[0].logprob, document.row["text"]
    if not math.isfinite(logprob):
        raise UserError(f"perplexity {document.id}: the log-likelihood is {logprob}; the model's numbers are broken")
    size = len(text.encode())
    details = {"logprob": logprob, "words": len(re.split(r"\s+", text)), "bytes": size}
    return Outcome({"bits_per_byte": -logprob / (size * math.log(2))}, details=details)
