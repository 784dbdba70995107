"""Refusals: answers that decline what the prompt asks, in nineteen languages; text in, no model.

    judge(answer "I'm sorry, but I can't help with that.")     # Reject("refusal", "\\"I'm sorry, but I can't ...\\"")

The phrases, and how well they agree with people's labels, are those of `evals.metrics.refusal`. A refusal comes at
the beginning, so the rest of a long answer is only read where its beginning declines something.
"""

from __future__ import annotations

import re
from functools import partial

from jitune.construct.curate.filters import parts, units
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.data.record import Record
from jitune.evals.metrics import refusal
from jitune.evals.metrics.refusal_phrases import TABLE
from jitune.types import UserError

# What negates or regrets in a language: cheap to look for, and without it nothing is refused. "It is illegal" alone
# refuses in no language: data of law say so too.
SIGNS = {
    "en": r"can't|can ?not|could ?n[o']t|won't|will not|would not|unable|not able|sorry|apolog|refuse|decline|"
          r"don't|do not|must not|should ?n[o']t|"
          r"not (?:going|allowed|permitted|comfortable|appropriate|programmed)",
    "es": r"\bno\b|niego|negar|lo siento|lament|perdón|disculp",
    "fr": r"\bne\b|n'|désol|refus|impossible|excuse|regret",
    "de": r"nicht|kein|leid|lehn|entschuldig",
    "it": r"\bnon\b|dispiace|rifiut|spiacente|scus",
    "pt": r"não|desculp|recus|sinto|lament",
    "vi": r"không|xin lỗi|từ chối|tiếc",
    "sw": r"siwez|sita|samahani|pole|hatu|kata",
    "id": r"tidak|\btak\b|maaf|menolak|g?gak|enggak",
    "eu": r"\bezin|barka|uko|sentitzen|\bez\b",
    "jv": r"\bora\b|mboten|boten|ndak|\bgak\b|nolak|nampik|pura|punten|sewu|tidak",
    "zh": r"无法|無法|不能|不会|不會|不可以|抱歉|对不起|對不起|拒绝|拒絕|没办法|不便|不方便|不好意思",
    "ja": r"でき(?:ない|ません|かね)|出来(?:ない|ません)|かねます|申し訳|すみません|ごめん|断り|られません|わけには",
    "ko": r"없|않|못|죄송|미안|거부|거절",
    "ar": r"لا |لن |لم |اسف|عذر|ارفض",
    "th": r"ไม่|ขออภัย|ขอโทษ|เสียใจ|ปฏิเสธ",
    "bn": r"না|দুঃখিত|ক্ষমা|অক্ষম",
    "ru": r"\bне\b|извини|прости|сожал|отказ",
    "hi": r"नहीं|क्षमा|माफ|खेद|असमर्थ|इनकार|इंकार",
}
_SIGNS = {language: re.compile(sign) for language, sign in SIGNS.items()}


def _literals(pattern: str) -> tuple[str, ...]:
    """A piece of every alternative that stands in all that it matches: "can ?not|refuse" -> ("can", "refuse")."""
    bare = re.sub(r"\(\?:[^()]*\)\??|\[[^\]]*\]|\\b|.\?", "\0", pattern)
    return tuple(dict.fromkeys(max(one.split("\0"), key=len) for one in bare.split("|")))


_LITERALS = {language: _literals(sign) for language, sign in SIGNS.items()}
_ASCII_LITERALS = {language: tuple(filter(str.isascii, found)) for language, found in _LITERALS.items()}
# A refusal stands in the first two sentences: characters of scripts with spaces, and of those without.
OPENING, OPENING_UNSPACED = 200, 80
# The rest decides between full and partial; a longer one is an answer.
REST = 4000
# "I couldn't help but notice", "I can't help smiling", "Ain't no reason why"; "there is no reason" objects.
NO_REFUSAL = re.compile(r"\b(?:can(?:no|')t|could ?n[o']t|can not) help (?:but|\w+ing|myself|it\b)|"
                        r"(?<!there is )(?<!there's )\bno reason\b")
NO_REFUSAL_SIGNS = ("help", "reason")


def _refuses(text: str, languages: tuple[str, ...]) -> str:
    """`full`, `partial` or `none` of one answer."""
    unspaced = units.UNSPACED.search(text[:20]) is not None
    opening = refusal.normalize(text[:OPENING_UNSPACED if unspaced else OPENING])
    opening = NO_REFUSAL.sub(" ", opening) if units.has_any(opening, NO_REFUSAL_SIGNS) else opening
    found, literals, holds = "none", _ASCII_LITERALS if opening.isascii() else _LITERALS, opening.__contains__
    for language in languages:
        if language in _SIGNS and not (any(map(holds, literals[language])) and _SIGNS[language].search(opening)):
            continue
        verdict = refusal.classify(opening, language)
        if verdict == "full" and len(text) > OPENING:
            verdict = refusal.classify(NO_REFUSAL.sub(" ", text[:REST]), language)
        if verdict == "full" and len(text) <= REST:
            return "full"
        found = "partial" if verdict in ("full", "partial") else found
    return found


def judge(record: Record, *, languages: tuple[str, ...], partial_too: bool) -> Verdict:
    """Rejects as refusal, or partial_refusal where that is asked for, if any answer is one."""
    for text in parts.of(record).answers:
        found = _refuses(text.strip(), languages)
        if found == "full" or found == "partial" and partial_too:
            return Reject("refusal" if found == "full" else "partial_refusal", parts.shown(text, 120))
    return Keep(record)


def build(*, languages: str = "", partial_too: bool = False) -> Filter:
    """The filter.

    Args:
      languages: to look for refusals in, as "en,zh"; "" for all there are phrases for.
      partial_too: reject answers that decline and then give something, or the other way round, as well.

    Raises:
      UserError: a language without phrases.
    """
    try:
        chosen = parts.names(languages, TABLE, "refusal: languages") or tuple(TABLE)
    except UserError as error:
        raise UserError(f"{error}; answers in others are kept") from error
    return Filter("refusal", partial(judge, languages=chosen, partial_too=bool(partial_too)))
