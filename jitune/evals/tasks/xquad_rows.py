"""Paragraphs with questions, from XQuAD or any file nested like SQuAD.

In: specs such as `xquad.en.json`: articles of title, paragraphs[].context, paragraphs[].qas[] of id, question,
answers[].text. Out: `Paragraph`s. The language is that of the file's name, `name.de.json` or `name_de.json`; English
where it has none. XQuAD's questions have the same id in every language, and its titles are English in all of them.

Artetxe, Ruder and Yogatama 2020, "On the Cross-lingual Transferability of Monolingual Representations".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

from jitune.evals import rows
from jitune.types import UserError

FILES = ("xquad.??.json",)
LANGUAGE = re.compile(r"[._-]([a-z]{2})\.jsonl?(?:\.gz)?$")


class Question(NamedTuple):
    """id: the same in all languages. answers: at least one, none of them empty."""

    id: str
    text: str
    answers: tuple[str, ...]


class Paragraph(NamedTuple):
    """id: `Warsaw/2`, the same in all languages (of files in one order)."""

    id: str
    language: str
    article: str
    context: str
    questions: tuple[Question, ...]

    @property
    def title(self) -> str:
        """The article's name in words: `Super_Bowl_50` -> "Super Bowl 50"."""
        return self.article.replace("_", " ")


def read_paragraphs(specs: Sequence[str]) -> list[Paragraph]:
    """All paragraphs in the files' order, the translations of one after each other.

    Raises:
      UserError: for a missing field, with the file and the number of the article; for a question given twice.
    """
    found, seen = [], set()
    for row, where in rows.read(specs):
        name = PurePath(where.rpartition(":")[0]).name
        match = LANGUAGE.search(name)
        language = match[1] if match else "en"
        article = str(row.get("title") or where.rpartition(":")[2])
        for number, part in enumerate(rows.need(row, "paragraphs", where, list)):
            here = f"{where}: paragraph {number + 1}"
            questions = tuple(_question(q, here) for q in rows.need(part, "qas", here, list))
            for question in questions:
                if (language, question.id) in seen:
                    raise UserError(f"{here}: the question {question.id} was there before in {language!r}")
                seen.add((language, question.id))
            context = rows.need(part, "context", here).strip()
            found.append(Paragraph(f"{article}/{number}", language, article, context, questions))
    place = {name: i for i, name in enumerate(dict.fromkeys(p.id for p in found))}
    return sorted(found, key=lambda p: (place[p.id], p.language))


def _question(row: dict, where: str) -> Question:
    answers = [rows.need(a, "text", where).strip() for a in rows.need(row, "answers", where, list)]
    return Question(str(rows.need(row, "id", where, (str, int))), rows.need(row, "question", where).strip(),
                    tuple(dict.fromkeys(answers)))
