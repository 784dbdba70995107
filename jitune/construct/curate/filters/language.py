"""Language: which one a record is in, written to `meta["language"]`, and records of others rejected.

    build().judge(record)                             # Keep, meta["language"] = "en"
    build(languages="en,zh").judge(french_record)     # Reject("wrong_language", "fr (1.00), wanted en, zh")
    build(mismatch=True).judge(answered_in_french)    # Reject("language_mismatch", "prompt en, answer fr")

Languages are told apart by lingua, without code, quotations and addresses. A prompt and an answer are looked at each
for itself: a record is of a wrong language where neither is in a wanted one, so that translations stay. What is too
short to tell is "und" and passes.

Time grows with the characters looked at and with the languages that share a script, so by default `max_characters` are
looked at, in lingua's mode of low accuracy, and sixteen languages in Latin letters are told apart; languages of other
scripts cost nothing there: about 0.2 ms a record; "all" takes three to four times as long. Where the small words of
English are, lingua is not asked, unless English is what is not wanted: it says something else of two such texts in a
thousand, and is wrong in nearly all of these. A process needs some 70 MB, with "all" and high accuracy 900 MB. So few
characters mislead once in a hundred records; before one is rejected, prompt and answer are looked at again together and
at greater length. A language that is not among `candidates` is taken for one that is: name those of your data, or
"all".
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import Any

from jitune.construct.curate.filters import parts, units
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.data.record import Record, changed
from jitune.types import UserError

UNKNOWN = "und"
CANDIDATES = ("en es fr de it pt nl pl tr vi id sv cs ro sw fi "
              "ru uk bg sr kk el he hy ka ar fa ur hi mr bn gu pa ta te th ja ko zh")
# Quotations, addresses, tags and formulas are often of another language than the text.
ASIDE = re.compile(r"https?://\S{1,2000}|<[^<>\n]{1,200}>|“[^”\n]{0,400}”|«[^»\n]{0,400}»|「[^」\n]{0,400}」"
                   r"|\"[^\"\n]{0,400}\"|\$[^$\n]{1,200}\$|\b\w{1,40}\(\)|\d+")
ASIDE_BUT_CALLS = re.compile(ASIDE.pattern.replace(r"|\b\w{1,40}\(\)", ""))  # much faster
# Small words of English: those that only it has of the languages in Latin letters, and others.
ENGLISH = frozenset("the and with that this which are were have has you your they their from would should there what "
                    "when how because been these than them into could about such other between through while who "
                    "where not".split())
ENGLISH_TOO = frozenset("of for to is it its by can be as was or if but we our my he she his her an will each it's "
                        "don't i'm using used use make most many some any only also more may".split())
# Words for "translate", in letters that do not change: a task that wants two languages.
TRANSLATION = re.compile(r"translat|traduc|tradu[iz]|übersetz|vertaal|tłumacz|çevir|terjemah|dịch|översätt|přelož|"
                         r"tafsiri|käännä|перевед|перевод|переклад|превод|μετάφρα|תרג|ترجم|अनुवाद|অনুবাদ|แปล|"
                         r"翻译|翻譯|译成|訳|번역", re.IGNORECASE)
# Characters for the second look, of prompt and answer each and of both together.
AGAIN = 600
# Of fewer words, only what is nearly certain counts, such as another script.
FEW, SURE = 16, 0.99
# What a prompt may need to be read in full: a task of translation is named at its beginning or end.
ENDS = 2000


@lru_cache(maxsize=8)
def _detector(candidates: tuple[str, ...], high_accuracy: bool, ascii: bool = False) -> Any:
    """lingua's detector; loaded once in a process, in about 0.3 s.

    ascii: of the candidates in Latin letters alone, among which lingua itself chooses for a text in ASCII, but slower.
    """
    lingua = _lingua()
    wanted = lingua.Language.all() if candidates == ("all",) else {
        lingua.Language.from_iso_code_639_1(getattr(lingua.IsoCode639_1, code.upper())) for code in candidates}
    latin = wanted & lingua.Language.all_with_latin_script()
    builder = lingua.LanguageDetectorBuilder.from_languages(*(latin if ascii and len(latin) > 1 else wanted))
    return (builder if high_accuracy else builder.with_low_accuracy_mode()).build()


def _lingua() -> Any:
    try:
        import lingua
    except ImportError as error:
        raise UserError(f"language: telling languages apart needs lingua: pip install 'jitune[data]' ({error})"
                        ) from error
    return lingua


def detect(text: str, *, candidates: tuple[str, ...], high_accuracy: bool, max_characters: int, min_words: int,
           confidence: bool = True, english: bool = False) -> tuple[str, float]:
    """The ISO 639-1 code of a text's language and how sure that is, in [0, 1]; ("und", 0) where it is too short.

    confidence: False where that is not asked for, and 1 will do. english: small words may settle it, and then it is 1.
    """
    text = looked_at(text, max_characters)
    if units.words(text) < min_words:
        return UNKNOWN, 0.0
    if english and is_english(text) and ("en" in candidates or candidates == ("all",)):
        return "en", 1.0
    detector = _detector(candidates, high_accuracy, text.isascii())
    if not confidence:
        found = detector.detect_language_of(text)
        return (found.iso_code_639_1.name.lower(), 1.0) if found else (UNKNOWN, 0.0)
    values = detector.compute_language_confidence_values(text)
    if not values or not values[0].value:
        return UNKNOWN, 0.0
    return values[0].language.iso_code_639_1.name.lower(), values[0].value


def looked_at(text: str, most: int) -> str:
    """The first `most` characters of a text without code and asides, with one space between words."""
    text = units.prose(text[:8 * most])
    pattern = ASIDE if "()" in text else ASIDE_BUT_CALLS
    pieces, end = [], 0
    for found in pattern.finditer(text):
        pieces.append(text[end:found.start()])
        end = found.end()
        if end > 2 * most:  # then the rest may not be needed
            line = " ".join(" ".join(pieces).split())
            if len(line) > most:
                return line[:most]
    return " ".join(" ".join((*pieces, text[end:])).split())[:most]


def is_english(text: str) -> bool:
    """Whether small words leave no doubt that a text is in English: three that no other language in ASCII has, or two
    among five small ones."""
    if not text.isascii():
        return False
    found = set(text.lower().split())
    plain = len(found & ENGLISH)
    return plain > 2 or plain == 2 and len(found & ENGLISH_TOO) > 2


def judge(record: Record, *, languages: tuple[str, ...], min_confidence: float, mismatch: bool, find: Any) -> Verdict:
    """Rejects as wrong_language or language_mismatch; else notes the language of the answer, or of the prompt."""
    found = parts.of(record)
    prompt, answer = "\n".join(found.prompts), "\n".join(found.answers)
    sure = bool(languages or mismatch)
    # How sure English is only matters where it is not wanted, or shown beside another language.
    english = not mismatch and (not languages or "en" in languages)
    of_answer = find(answer, confidence=sure, english=english)
    # The prompt is only looked at where it decides something.
    needed = of_answer[0] == UNKNOWN or mismatch or (languages and of_answer[0] not in languages)
    of_prompt = find(prompt, confidence=sure, english=english) if needed else (UNKNOWN, 0.0)
    told = [(code, value) for code, value in (of_answer, of_prompt) if code != UNKNOWN and value >= min_confidence]
    if languages and told and not any(code in languages for code, _ in told):
        both = f"{prompt[:AGAIN]}\n{answer[:AGAIN]}"
        code, value = find(both, max_characters=AGAIN)
        least = min_confidence if units.words(both) >= FEW else max(min_confidence, SURE)
        if code not in (*languages, UNKNOWN) and value >= least:
            return Reject("wrong_language", f"{code} ({value:.2f}), wanted {', '.join(languages)}",
                          record=noted(record, code))
        told = [(code, value)]
    if mismatch and len(told) == 2 and told[0][0] != told[1][0]:
        if not TRANSLATION.search(prompt[:ENDS]) and not TRANSLATION.search(prompt[-ENDS:]):
            return Reject("language_mismatch", f"prompt {told[1][0]} ({told[1][1]:.2f}), "
                                               f"answer {told[0][0]} ({told[0][1]:.2f})",
                          record=noted(record, told[0][0]))
    return Keep(noted(record, told[0][0] if told else UNKNOWN))


def noted(record: Record, code: str) -> Record:
    """The record with its language."""
    return changed(record, meta={**record.meta, "language": code})


def build(*, languages: str = "", candidates: str = "", min_confidence: float | None = None, mismatch: bool = False,
          high_accuracy: bool = False, max_characters: int = 120, min_words: int = 4) -> Filter:
    """The filter.

    Args:
      languages: those to keep, as "en,zh"; "" keeps all and only notes the language.
      candidates: those to tell apart besides; "" for CANDIDATES, "all" for lingua's 75.
      min_confidence: below this, in [0, 1], a text counts as too short to tell; 0.7 where something may be rejected.
      mismatch: reject where an answer is in another language than its prompt, unless a translation is asked for.
      high_accuracy: lingua's larger models: with all languages 0.9 GB of memory in each process.
      max_characters: of a text that are looked at.
      min_words: texts of fewer words (`units.words`) are "und".

    Raises:
      UserError: lingua is not installed, or does not know a language.
    """
    known = [code.name.lower() for code in _codes()]
    wanted = parts.names(languages, known, "language: languages")
    told_apart = ("all",) if candidates.strip() == "all" else tuple(dict.fromkeys(
        (*parts.names(candidates or CANDIDATES, known, "language: candidates"), *wanted)))
    if len(told_apart) < 2 and told_apart != ("all",):
        raise UserError(f"language: candidates is {candidates!r}; at least two languages are needed, to tell apart")
    if min_confidence is None:
        min_confidence = 0.7 if wanted or mismatch else 0.0
    parts.number(min_confidence, "language: min_confidence", 0, 1)
    find = partial(detect, candidates=told_apart, high_accuracy=bool(high_accuracy),
                   max_characters=int(parts.number(max_characters, "language: max_characters", 20)),
                   min_words=int(parts.number(min_words, "language: min_words", 1)))
    return Filter("language", partial(judge, languages=wanted, min_confidence=min_confidence, mismatch=bool(mismatch),
                                      find=find))


def _codes() -> list:
    lingua = _lingua()
    return sorted({language.iso_code_639_1 for language in lingua.Language.all()}, key=lambda code: code.name)
