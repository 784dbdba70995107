"""MGSM: 250 problems of GSM8K in eleven languages (Shi et al. 2022). In: `mgsm_LL.tsv`, lines of question TAB number.

A model is asked in the language of the problem. The 250 problems are the same in each language, so that the error bar
is over problems: all translations of one are a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from jitune.evals import rows
from jitune.evals.metrics import numbers
from jitune.evals.task import Document, Generate, Task, chat
from jitune.evals.tasks import gsm8k
from jitune.types import UserError

PROMPTS = {
    "bn": "এই গণিতের সমস্যাটি ধাপে ধাপে সমাধান করুন। শেষ লাইনে শুধু সংখ্যায় উত্তর দিন, এইভাবে: \"উত্তর: সংখ্যা\"।",
    "de": "Löse diese Aufgabe Schritt für Schritt. Gib die Antwort als Zahl in einer letzten Zeile an: "
          "\"Antwort: Zahl\".",
    "en": "Solve this problem step by step. Give the answer as a number on a last line: \"Answer: number\".",
    "es": "Resuelve este problema paso a paso. Da la respuesta como número en una última línea: \"Respuesta: número\".",
    "fr": "Résous ce problème étape par étape. Donne la réponse en chiffres sur une dernière ligne : "
          "\"Réponse : nombre\".",
    "ja": "この問題を段階的に解いてください。最後の行に「答え: 数字」の形で答えを数字で書いてください。",
    "ru": "Решите эту задачу шаг за шагом. В последней строке дайте ответ числом: \"Ответ: число\".",
    "sw": "Tatua tatizo hili hatua kwa hatua. Toa jibu kama nambari kwenye mstari wa mwisho: \"Jibu: nambari\".",
    "te": "ఈ లెక్కను దశలవారీగా పరిష్కరించండి. చివరి పంక్తిలో సమాధానాన్ని సంఖ్యగా ఇవ్వండి: \"సమాధానం: సంఖ్య\".",
    "th": "จงแก้โจทย์ข้อนี้ทีละขั้นตอน และเขียนคำตอบเป็นตัวเลขในบรรทัดสุดท้ายดังนี้ \"คำตอบ: ตัวเลข\"",
    "zh": "请一步一步地解答这道题。在最后一行用数字写出答案，格式为“答案: 数字”。",
}


def load(specs: Sequence[str]) -> list[Document]:
    """One document a line; id `de-17` is line 18 of the German file."""
    documents = []
    for spec in specs:
        named = re.search(r"mgsm_([a-z]{2})\.tsv(\.gz)?$", str(spec))
        if not named or named[1] not in PROMPTS:
            raise UserError(f"{spec}: the name must be mgsm_LANGUAGE.tsv; the languages are {', '.join(PROMPTS)}")
        lines = [line for line in rows.text(str(spec)).splitlines() if line.strip()]
        if not lines:
            raise UserError(f"{spec}: is empty")
        documents += [_document(line, i, named[1], f"{spec}:{i + 1}") for i, line in enumerate(lines)]
    return documents


def _document(line: str, index: int, language: str, where: str) -> Document:
    question, _, answer = line.rpartition("\t")
    gold = numbers.last_number(answer)
    if not question.strip() or gold is None:
        raise UserError(f"{where}: is {line[:60]!r}; a question, a tab and a number are needed")
    return Document(
        id=f"{language}-{index}", row={"question": question, "language": language}, target=numbers.show_number(gold),
        requests=(Generate(chat(f"{PROMPTS[language]}\n\n{question}"), max_new_tokens=512),),
        tags={"language": language, "domain": "math"}, cluster=str(index),
    )


TASK = Task(
    "mgsm", axis="utility", title="MGSM, school maths in eleven languages", load=load, score=gsm8k.score,
    metrics=gsm8k.METRICS, files=("mgsm_*.tsv",), domain="math", source="Shi et al. 2022, arXiv:2210.03057",
)
