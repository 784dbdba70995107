"""LawBench: Chinese law (Fei et al. 2023). In: rows of `instruction`, `question`, `answer`.

Files 1-2 (knowledge) and 3-6 (cases) are multiple choice, scored by accuracy; 3-1 asks for the articles of the criminal
code that apply, scored by F1 of the set of their numbers. The instructions ask for answers between marks:

    [正确答案]B<eoa>          [法条]刑法第234条、刑法第275条<eoa>

An answer without the marks is read where it is clear.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from jitune.evals import rows
from jitune.evals.metrics import answers, words
from jitune.evals.task import Document, Generate, Metric, Outcome, Response, Task, chat
from jitune.types import UserError

CHOICES, ARTICLES = ("1-2", "3-6"), ("3-1",)
DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
UNITS = {"十": 10, "百": 100, "千": 1000}
NUMBER = f"(?:[0-9０-９]{{1,4}}|[{''.join([*DIGITS, *UNITS])}]{{1,9}})"


def load(specs: Sequence[str]) -> list[Document]:
    """One document a row; the tag `subset` is 1-2, 3-1 or 3-6."""
    documents = []
    for spec in map(str, specs):
        named = re.search(r"(\d-\d+)\.jsonl?(?:\.gz)?$", spec)
        if not named or named[1] not in CHOICES + ARTICLES:
            raise UserError(f"{spec}: the name must end in one of {', '.join(sorted(CHOICES + ARTICLES))}.json")
        for i, (row, where) in enumerate(rows.read([spec])):
            documents.append(_document(row, named[1], i, where))
    return documents


def _document(row: dict, subset: str, index: int, where: str) -> Document:
    instruction, question, answer = (rows.need(row, name, where) for name in ("instruction", "question", "answer"))
    target = sorted(article_numbers(answer)) if subset in ARTICLES else read_choice(answer)
    if not target:
        raise UserError(f"{where}: answer is {answer[:60]!r}; {'articles' if subset in ARTICLES else 'a letter'} "
                        "cannot be read from it")
    return Document(
        id=f"{subset}-{index}", row={"instruction": instruction, "question": question}, target=target,
        requests=(Generate(chat(f"{instruction}\n{question}"), max_new_tokens=512),),
        tags={"language": "zh", "domain": "legal", "subset": subset},
    )


def read_choice(text: str) -> str | None:
    """The letters behind the mark, all of them ("AB" is an answer, and wrong); without a mark the clear one."""
    marked = re.findall(r"\[正确答案\]\s*([A-D](?:[\s、,，]*[A-D])*)(?![A-Za-z])", text)
    if marked:
        return "".join(sorted(set(re.findall("[A-D]", marked[-1]))))
    return answers.choice_letter(text, "ABCD")


def article_numbers(text: str) -> set[int]:
    """The numbers of the articles that a text names, in digits or Chinese numerals.

    Between [法条] and <eoa> where the text has these marks. Example: "刑法第二百六十六、159条" -> {266, 159}.
    """
    marked = re.findall(r"\[法条\](.*?)(?:<eoa>|$)", text, re.DOTALL)
    part = marked[-1] if marked else text
    lists = re.findall(rf"({NUMBER}(?:\s*[、,，和及与]\s*第?{NUMBER})*)(\s*条)?", part)
    found = [numbers for numbers, article in lists if article]
    if not found and (marked or len(part) < 40):  # numbers alone
        return {int(n) for n in re.findall(r"\d{1,4}", part)}
    return {number for group in found for number in map(read_numeral, re.findall(NUMBER, group)) if number}


def read_numeral(text: str) -> int:
    """A whole number in digits or Chinese numerals up to 9999. Example: "二百六十四" -> 264; "一百零三" -> 103."""
    if text[0].isdecimal():
        return int(text)
    if not any(c in UNITS for c in text):
        return int("".join(str(DIGITS[c]) for c in text))
    total, digit = 0, 0
    for c in text:
        if c in UNITS:
            total, digit = total + (digit or 1) * UNITS[c], 0
        else:
            digit = DIGITS[c]
    return total + digit


def score(document: Document, responses: tuple[Response, ...], verdicts: tuple) -> Outcome:
    """Of a choice 1 or 0, of articles the F1 of the two sets."""
    text = responses[0].text
    if document.tags["subset"] in ARTICLES:
        found = article_numbers(text)
        if not found:
            return Outcome({"score": None}, failure="extraction")
        value = words.bag_f1(sorted(found), document.target)
        return Outcome({"score": value}, answer="、".join(map(str, sorted(found))))
    # Of a text that was cut off only a marked answer counts.
    cut = responses[0].finish_reason == "length" and "[正确答案]" not in text
    letter = read_choice(answers.marked_text(text) or "" if cut else text)
    if not letter:
        return Outcome({"score": None}, failure="extraction")
    return Outcome({"score": float(letter == document.target)}, answer=letter)


TASK = Task(
    "lawbench", axis="utility", title="LawBench, Chinese law", load=load, score=score, domain="legal",
    metrics=(Metric("score", "accuracy of choices, F1 of articles", worst=0.0),),
    files=("lawbench_*.json", "zero_shot/1-2.json", "zero_shot/3-1.json", "zero_shot/3-6.json"),
    source="Fei et al. 2023, arXiv:2309.16289",
)
