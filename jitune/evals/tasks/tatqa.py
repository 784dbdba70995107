"""TAT-QA: questions over a table and the paragraphs around it, from annual reports (Zhu et al. 2021).

In: contexts of `table`, `paragraphs`, `questions` (`answer`, `answer_type`, `scale`). An answer is one span, several, a
number worked out, or a count; a number counts with its scale, so that "$1,496.5 million" and "1,496,500 thousand" are
the same, and "1,496.5" is not. Exact match and F1 are those of the paper's evaluator: numbers to two digits times the
scale, in texts too; F1 over the sets of words, and for worked out numbers and counts no more than exact match.

    read_answer("... Answer: 73,260; 57,768 thousand")     # (["73,260", "57,768"], "thousand")
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from jitune.evals import rows
from jitune.evals.metrics import answers, numbers, words
from jitune.evals.task import Document, Generate, Metric, Outcome, Response, Task, chat, digest
from jitune.types import UserError

SCALES = {"": 1.0, "percent": 0.01, "thousand": 1e3, "million": 1e6, "billion": 1e9}
PROMPT = (
    'Answer the question from the table and the text. End with a last line "Answer: ...". Give a number with its '
    "scale (thousand, million, billion or percent) where it has one, and put a semicolon between several answers.\n\n"
    "Table:\n{}\n\nText:\n{}\n\nQuestion: {}"
)
WORKED_OUT = ("arithmetic", "count")
SCALE = r"(?P<scale>%|percent(?:age points?)?|thousands?|millions?|billions?)"
DIGITS = r"-?[0-9][0-9,]{0,40}(?:\.[0-9]{1,40})?|-?\.[0-9]{1,40}"
AMOUNT = re.compile(rf"(?P<sign>[-−(]?\s*)(?:[$€£¥]|US\$|RMB|USD)?\s*(?P<digits>{DIGITS})"
                    rf"\s*\)?\s*{SCALE}?\s*\)?(?:\s*(?:dollars|USD|usd))?", re.IGNORECASE)


def load(specs: Sequence[str]) -> list[Document]:
    """One document a question; questions over one table are a cluster."""
    documents = []
    for context, where in rows.read(specs):
        table = rows.need(rows.need(context, "table", where, dict), "table", where, list)
        paragraphs = sorted(rows.need(context, "paragraphs", where, list), key=lambda p: p.get("order", 0))
        texts = [rows.need(p, "text", f"{where} paragraph {i}") for i, p in enumerate(paragraphs, 1)]
        shown = "\n".join(" | ".join(map(str, line)) for line in table)
        for i, question in enumerate(rows.need(context, "questions", where, list), 1):
            place = f"{where} question {i}"
            documents.append(_document(question, shown, "\n".join(texts), context["table"].get("uid", where), place))
    return documents


def _document(question: dict, table: str, text: str, cluster: str, where: str) -> Document:
    asked, uid, kind = (rows.need(question, name, where) for name in ("question", "uid", "answer_type"))
    scale, answer = question.get("scale", ""), rows.need(question, "answer", where, (list, str, int, float))
    if scale not in SCALES:
        raise UserError(f"{where}: scale is {scale!r}; it must be one of {', '.join(map(repr, SCALES))}")
    values = [str(v) for v in (answer if isinstance(answer, list) else [answer]) if str(v).strip()]
    if not values:
        raise UserError(f"{where}: answer is empty")
    shown = "" if any(amount(v)[1] for v in values) else f" {scale}".rstrip()
    return Document(
        id=uid, row={"question": asked, "context": digest([table, text]), "values": values, "scale": scale},
        requests=(Generate(chat(PROMPT.format(table, text, asked)), max_new_tokens=384),),
        tags={"domain": "finance", "answer_type": kind, "source": question.get("answer_from", "")}, cluster=cluster,
        target="; ".join(values) + shown,
    )


def read_answer(text: str) -> tuple[list[str], str]:
    """The values of an answer and the scale of the last one that has one; see the module's docstring.

    What follows the last "Answer:" counts, without one the last line.
    """
    pieces = re.split(r"\banswers?[*_ ]*[:：]", text, flags=re.IGNORECASE)
    part = pieces[-1].strip() if len(pieces) > 1 else (text.strip().splitlines() or [""])[-1]
    values = [re.sub(r"^[-*•]\s+", "", v).strip(" \t*_`").removesuffix(".") for v in re.split(r"\s*[;\n]\s*", part)]
    values = [v for v in values if v]
    scales = [scale for v in values if (scale := amount(v)[1])]
    return values, scales[-1] if scales else ""


def amount(text: str) -> tuple[float | None, str]:
    """(number, own scale) of a text that is an amount and nothing else, or (None, ""). "(1.2) %" is -1.2 percent."""
    match = AMOUNT.fullmatch(text.strip())
    if not match:
        return None, ""
    number = float(numbers.last_number(match["digits"].replace(",", "").lstrip("-")))
    negative = match["sign"].strip() in ("-", "−", "(") or match["digits"].startswith("-")
    word = (match["scale"] or "").lower()
    return -number if negative else number, "percent" if word.startswith(("%", "per")) else word.rstrip("s")


def canonical(values: Sequence[str], scale: str) -> list[str]:
    """Values in one form, sorted: amounts times their own scale or the common one, to four digits; texts normalized."""
    found = []
    for value in values:
        number, own = amount(value.strip("`'’ "))
        if number is None:
            found.append(" ".join(filter(None, (*map(_word, re.split(r"[\s-]+", value)), scale))))
        else:
            found.append(f"{round(number, 2) * SCALES[own or scale]:.4f}")
    return sorted(found)


def _word(word: str) -> str:
    """One word of a text: a number in the form of amounts, else normalized."""
    number, scale = amount(word.strip(",;:.'\"`’"))
    return words.normalize(word) if number is None or scale else f"{number:.4f}"


def compare(values: Sequence[str], scale: str, golds: Sequence[str], gold_scale: str) -> tuple[float, float]:
    """(exact match, F1) of an answer, of its readings the best one.

    A single bare number may also stand for its percentage, 0.2342 for 23.42 %; a single text may have semicolons.
    """
    gold = canonical(golds, gold_scale)
    forms = [canonical(values, scale)]
    if len(golds) == 1 < len(values):
        forms.append(canonical(["; ".join(values)], scale))
    if len(values) == 1 and not scale and amount(values[0])[0] is not None:
        forms.append([f"{amount(values[0])[0]:.4f}"])
    return max((float(form == gold), _f1(form, gold)) for form in forms)


def _f1(found: Sequence[str], gold: Sequence[str]) -> float:
    """Of the sets of words."""
    return words.bag_f1(*(sorted(set(" ".join(part).split())) for part in (found, gold)))


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple) -> Outcome:
    """Exact match and F1, scale included."""
    response = responses[0]
    values, scale = read_answer(response.text)
    cut = response.finish_reason == "length" and answers.marked_text(response.text) is None
    if not values or cut:
        return Outcome({"exact_match": None, "f1": None}, failure="extraction")
    exact, f1 = compare(values, scale, document.row["values"], document.row["scale"])
    f1 = exact if document.tags["answer_type"] in WORKED_OUT else f1
    return Outcome({"exact_match": exact, "f1": f1}, answer="; ".join(values))


TASK = Task(
    "tatqa", axis="utility", title="TAT-QA, tables and text of annual reports", load=load, score=score,
    metrics=(Metric("exact_match", "answers that are right, scale included", worst=0.0),
             Metric("f1", "overlap with the right answer; numbers count as a whole", worst=0.0)),
    files=("tatqa_dev.json", "tatqa_dataset_dev.json"), domain="finance", source="Zhu et al. 2021, arXiv:2105.07624",
)
