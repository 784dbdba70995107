"""Answers that are one of a few: letters of choices, labels such as yes and no, and choices by log-likelihood.

    choice_letter("I think that the answer is (B).", "ABCD")      # "B"
    choice_letter("[正确答案]B<eoa>", "ABCD")                      # "B"
    label_in("No, it is irrelevant.", ("relevant", "irrelevant")) # "irrelevant"
    yes_no_maybe("Maybe. We cannot tell.")                        # "maybe"
    pick([LogLikelihood(-4.0, False, 1), LogLikelihood(-2.0, True, 1)], ("no", "yes"), gold=1).scores["acc"]  # 1.0

What cannot be read is None, and never a guess: a text that names two choices and marks neither has no answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jitune.evals.task import LogLikelihood
from jitune.types import UserError

# What says that the answer comes next, in the languages of the tasks.
MARKER = (
    r"(?:\b(?:answer|option|choice|antwort|lösung|respuesta|réponse|risposta|resposta|jawaban|jibu|cevap|ответ|đáp án)"
    r"\b|答案|选项|选择|应选|答え|回答|正解|정답|উত্তর|సమాధానం|คำตอบ|الجواب|الإجابة)"
)
LINK = (
    r"(?:\s*(?:\b(?:is|are|would be|should be|must be|ist|es|est|è|é|adalah|ni|là|correct|option|choice|therefore|thus)"
    r"\b|是|为|為|は|选|应|该|হল|คือ|[:：=\]】*_`\"'“「(\[【（]|\\boxed\{|\\text\{)){0,8}\s*"
)
LATIN = "[A-Za-zÀ-ÿ0-9_'’]"
AND = r"(?:[,，、/&]|\b(?:and|or|und|oder|y|o|et|ou)\b|和|或|及)"

YES_NO_MAYBE = {
    "en": ("yes", "no", "maybe"), "de": ("ja", "nein", "vielleicht"), "es": ("sí", "no", "quizás"),
    "fr": ("oui", "non", "peut-être"), "it": ("sì", "no", "forse"), "zh": ("是", "否", "可能"),
    "ja": ("はい", "いいえ", "たぶん"), "ru": ("да", "нет", "возможно"),
}


def choice_letter(text: str, letters: Sequence[str] = "ABCD") -> str | None:
    """The letter that a text gives as its answer, or None.

    In this order: behind the last marker ("Answer:", "答案是", ...); a text that is a letter, or begins with one and a
    mark ("B.", "(B) because"); the only letter in brackets; the only letter that stands alone ("A" apart where it is
    the English article). A marker with two letters ("AB") is no answer.
    """
    one = f"[{re.escape(''.join(letters))}]"
    no_other = rf"(?!\W*{AND}\W*{one}(?!{LATIN}))"
    alone = rf"(?!{LATIN}){no_other}"
    text = text.strip()
    marked = re.findall(f"{MARKER}{LINK}({one}){alone}", text, re.IGNORECASE)
    # Lower case counts only where a letter alone is the whole answer: "the answer is a number" names no choice.
    marked = [m for m in marked if m in letters]
    if marked:
        return marked[-1]
    whole = re.fullmatch(rf"[\W_]*({one})[\W_]*", text, re.IGNORECASE)
    if whole:
        return _in_case(whole[1], letters)
    front = re.match(rf"[*_`\"'\s]*(?:[(\[（【]({one})[)\]）】]|({one})[*_`]*(?:[).:：、．。]|\s*\n)){no_other}", text)
    if front:
        return front[1] or front[2]
    words = re.sub(rf"(?<!{LATIN})[AI] (?!and\b|or\b|is\b|because\b|since\b)(?=[a-zà-ÿ])", "", text)
    bracketed = re.findall(rf"[(\[（【*]({one})[)\]）】*]", text)
    for found in (bracketed, re.findall(rf"(?<!{LATIN})(?<!\bnot )({one})(?!{LATIN})", words)):
        if len(set(found)) == 1:
            return found[0]
    return None


def _in_case(letter: str, letters: Sequence[str]) -> str:
    return next(a for a in letters if a.lower() == letter.lower())


def marked_text(text: str, *, to_end: bool = False) -> str | None:
    """What stands behind the last "Answer:" or "answer is" of a text; None without one.

    It goes to the end of its line, or with `to_end` to the text's.

    Example: marked_text("So 2 of them.\\n**Answer:** red, blue.") -> "red, blue".
    """
    found = re.findall(rf"{MARKER}[*_ ]*(?:\s*[:：]|\s+(?:is|ist|es|est)\b)[*_\s]*({'(?s:.*)' if to_end else '.*'})",
                       text, re.IGNORECASE)
    return found[-1].strip(" \t*_`").removesuffix(".").strip(" \t*_`") or None if found else None


def label_in(text: str, labels: Sequence[str]) -> str | None:
    """The label that a text gives as its answer, or None; case does not matter.

    In this order: the whole text; behind the last marker ("Answer:"); at the front of the text; the only label that
    the text has as words. Longer labels win over those that they contain, and "irrelevant" does not contain
    "relevant".
    """
    forms = sorted(labels, key=len, reverse=True)
    known = {label.lower(): label for label in labels}
    # Words have bounds where the script has spaces; "not relevant" names no label.
    any_of = "|".join(rf"(?<!\w)(?<!\bnot ){re.escape(f)}(?!\w)" if f[0] < "\u2e80" else re.escape(f) for f in forms)
    text = text.strip()
    for pattern in (rf"[\W_]*({any_of})[\W_]*$", rf"{MARKER}{LINK}({any_of})", rf"^[\W_]*({any_of})"):
        found = re.findall(pattern, text, re.IGNORECASE) if pattern.startswith("(?:") else [
            m[1] for m in [re.match(pattern, text, re.IGNORECASE)] if m]
        if found:
            return known[found[-1].lower()]
    found = {known[f.lower()] for f in re.findall(any_of, text, re.IGNORECASE)}
    return found.pop() if len(found) == 1 else None


def yes_no_maybe(text: str, language: str = "en") -> str | None:
    """`yes`, `no` or `maybe`, whatever the language of the answer, or None.

    The language's own words are looked for first, then the English ones.
    """
    for code in dict.fromkeys((language, "en")):
        words = YES_NO_MAYBE.get(code, YES_NO_MAYBE["en"])
        found = label_in(text, words)
        if found:
            return YES_NO_MAYBE["en"][words.index(found)]
    return None


@dataclass(frozen=True)
class Choice:
    """A choice by log-likelihood.

    scores: `acc`, `acc_norm` and `acc_bytes`, each 1, 0, or 1/k where the right choice is one of k that tie.
    picked: under the same names the index of the likeliest choice; None where choices tie.
    """

    scores: Mapping[str, float]
    picked: Mapping[str, int | None]


def pick(
    likelihoods: Sequence[LogLikelihood], choices: Sequence[str], gold: int, *, where: str = "a question"
) -> Choice:
    """Which choice a model finds likeliest: by the sum of log p, that over characters, and that over UTF-8 bytes.

    The three are acc, acc_norm and acc_bytes of lm-evaluation-harness, but for ties: the right choice among k equal
    ones counts 1/k, what a coin would give, so that a model which cannot tell choices apart is at chance wherever the
    right one stands.

    Raises:
      UserError: a log-likelihood is not finite; argmax would call NaN the likeliest.
    """
    logprobs = [likelihood.logprob for likelihood in likelihoods]
    bad = [i for i, value in enumerate(logprobs) if not math.isfinite(value)]
    if bad:
        raise UserError(f"{where}: the log-likelihood of choice {bad[0] + 1} is {logprobs[bad[0]]}; the model's "
                        "numbers are broken, so nothing can be compared")
    lengths = {"acc": [1] * len(choices), "acc_norm": [len(c) for c in choices],
               "acc_bytes": [len(c.encode()) for c in choices]}
    scores, picked = {}, {}
    for name, sizes in lengths.items():
        values = [value / max(size, 1) for value, size in zip(logprobs, sizes, strict=True)]
        top = [i for i, value in enumerate(values) if value == max(values)]
        scores[name] = 1 / len(top) if gold in top else 0.0
        picked[name] = top[0] if len(top) == 1 else None
    return Choice(scores, picked)
