"""Generation against references of a file of yours. In: rows of a prompt and of one reference or several.

    {"prompt": "Translate to French: cheese", "reference": "fromage"}
    {"messages": [{"role": "user", "content": "..."}], "references": ["...", "..."], "language": "de"}
    {"instruction": "Summarize.", "input": "...", "output": "..."}

`generation:FILE` gives exact match, F1 of words, ROUGE, chrF and BLEU; it needs `jitune[eval]`. `language` (ISO 639-1)
says how texts are cut into words; `domain` and `group` are optional. A conversation that ends with an assistant's
message has it as its reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jitune.evals import rows
from jitune.evals.metrics import overlap, words
from jitune.evals.task import Document, Generate, Metric, Outcome, Prompt, Response, Task, chat
from jitune.types import UserError

REFERENCES = ("references", "reference", "target", "answer", "output", "response", "completion")


def bleu(documents: Sequence[Document], outcomes: Sequence[Outcome]) -> float | None:
    """BLEU of the set, 0 to 100, from what was counted in each answer."""
    counts = [o.details["bleu"] for o in outcomes if "bleu" in o.details]
    return overlap.bleu_of(counts) if counts else None


METRICS = (
    Metric("f1", "overlap of words with the nearest reference"),
    Metric("exact_match", "answers that are a reference, but for case, punctuation and articles"),
    Metric("rouge1", "ROUGE-1, F1"), Metric("rouge2", "ROUGE-2, F1"), Metric("rougeL", "ROUGE-L, F1"),
    Metric("chrf", "chrF of each answer, 0 to 100", unit=""),
    Metric("bleu", "BLEU of the set, 0 to 100", unit="", corpus=bleu),
)


def make(argument: str) -> Task:
    """The task of a file, or of a dataset on the hub; FILE@64 allows answers of 64 tokens instead of 256."""
    spec, at, limit = argument.rpartition("@")
    spec, limit = (spec, int(limit)) if at and limit.isdecimal() else (argument, 256)
    overlap.load("sacrebleu")  # what is missing is said before anything is generated
    overlap.load("rouge_score")
    name = Path(spec).name
    return Task(f"generation:{name}", axis="utility", title=f"Generation, {name}",
                load=partial(load, max_new_tokens=limit), score=score, metrics=METRICS, hub=(spec,),
                packages=("sacrebleu", "rouge_score"),
                source="Rajpurkar et al. 2016; Lin 2004; Popović 2015; Papineni et al. 2002")


def load(specs: Sequence[str], *, max_new_tokens: int = 256) -> list[Document]:
    """One document a row."""
    documents = []
    for i, (row, where) in enumerate(rows.read(specs)):
        prompt, last = read_prompt(row, where)
        references = read_references(row, last, where)
        documents.append(Document(
            id=str(row.get("id") or i), row={"prompt": prompt, "references": references}, target=references[0],
            requests=(Generate(prompt, max_new_tokens=max_new_tokens),), cluster=str(row.get("group") or ""),
            tags={"domain": "general"} | {k: str(row[k]) for k in ("language", "domain") if row.get(k)},
        ))
    return documents


def read_prompt(row: dict, where: str) -> tuple[Prompt, str]:
    """The conversation of a row, and the assistant's last message where it ends with one."""
    if "messages" in row:
        messages = rows.need(row, "messages", where, list)
        pairs = [(rows.need(m, "role", where), rows.need(m, "content", where)) for m in messages]
        last = pairs.pop()[1] if pairs[-1][0] == "assistant" else ""
        if not pairs:
            raise UserError(f"{where}: messages have no question before the answer")
        return tuple(pairs), last
    if "instruction" in row:
        more = row.get("input") or ""
        return chat("\n\n".join(filter(None, (rows.need(row, "instruction", where), more)))), ""
    return chat(rows.need(row, "prompt", where)), ""


def read_references(row: dict, last: str, where: str) -> list[str]:
    """One reference or more: of the first field of REFERENCES that there is, else the conversation's last message."""
    name = next((n for n in REFERENCES if row.get(n) not in (None, "", [])), None)
    if name is None and not last:
        raise UserError(f"{where}: has no reference; one of {', '.join(REFERENCES)} is needed; it has {', '.join(row)}")
    given = last if name is None else row[name]
    references = given if isinstance(given, list) else [given]
    if not all(isinstance(r, str) and r.strip() for r in references):
        raise UserError(f"{where}: {name} is {given!r:.60}; a text, or a list of texts, is needed")
    return references


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple) -> Outcome:
    """All metrics of one answer; an empty answer is an answer, and scores 0."""
    text, references = responses[0].text.strip(), document.row["references"]
    language = document.tags.get("language", "en")
    scores = {
        "f1": words.token_f1(text, references, language), "exact_match": words.exact_match(text, references, language),
        **overlap.rouge(text, references, language=language),
        "chrf": overlap.sentence_chrf(text, references, language=language),
    }
    return Outcome(scores, answer=text, details={"bleu": overlap.bleu_counts(text, references, language=language)})
