r"""The 25 instructions of IFEval as pure functions of a response, in any language.

    keywords_existence("A red boat.", ENGLISH, keywords=["boat"])       # True
    CHECKS["punctuation:no_comma"]("Yes, sir.", ENGLISH)                # False

Every check is `check(response, language, **arguments) -> bool`, where the arguments have the names of the task files.
The definitions are those of Zhou et al., 2023 (arXiv 2311.07911) and its published checker, but for:

- keywords are texts, no regular expressions;
- two rows ask for the letters "#" and "!". The published checker counts a letter drawn at random in their stead, anew
  for every reading, which no answer can know. Here such an instruction is not followed, by any answer;
- a paragraph may have to begin with several words;
- a postscript's marker is a word of its own;
- what languages name "at most" is at most, and an optional `relation` is honoured (default: at least).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from jitune.evals.instructions.detect import detect
from jitune.evals.instructions.language import Language, count, spellings


def _amount(language: Language, relation: str | None, found: int, wanted: int) -> bool:
    return count(language, relation, found, wanted) if relation else found >= wanted


def _occurs(text: str, keyword: str) -> int:
    return len(re.findall(re.escape(keyword.strip()), text, flags=re.IGNORECASE))


def _as_word(text: str, language: Language) -> str:
    """The pattern of a text that is no part of a longer word."""
    if not language.spaced:
        return re.escape(text)
    return (r"(?<!\w)" if text[:1].isalnum() else "") + re.escape(text) + (r"(?!\w)" if text[-1:].isalnum() else "")


def keywords_existence(response: str, language: Language, *, keywords: Sequence[str]) -> bool:
    """Every keyword is somewhere in it, within longer words too; case does not matter."""
    return all(_occurs(response, keyword) for keyword in keywords)


def keywords_frequency(response: str, language: Language, *, keyword: str, frequency: int, relation: str) -> bool:
    """The keyword occurs so many times, counted as in `keywords_existence`."""
    return count(language, relation, _occurs(response, keyword), frequency)


def keywords_forbidden(response: str, language: Language, *, forbidden_words: Sequence[str]) -> bool:
    """None of the words is in it as a word."""
    return not any(re.search(_as_word(word, language), response, flags=re.IGNORECASE) for word in forbidden_words)


def letter_frequency(
    response: str, language: Language, *, letter: str, let_frequency: int, let_relation: str
) -> bool:
    """The letter occurs so many times; letters that the language folds together are one. No letter: not followed."""
    found = language.fold(response).count(language.fold(letter.strip()))
    return letter.strip().isalpha() and count(language, let_relation, found, let_frequency)


def response_language(response: str, language: Language, *, language_code: str) -> bool:
    """It is in the language of that code."""
    return detect(response) == language_code


def number_sentences(response: str, language: Language, *, num_sentences: int, relation: str) -> bool:
    """It has so many sentences."""
    return count(language, relation, len(language.split(response)), num_sentences)


def number_words(response: str, language: Language, *, num_words: int, relation: str) -> bool:
    """It has so many words."""
    return count(language, relation, len(language.words(response)), num_words)


def number_paragraphs(response: str, language: Language, *, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs between dividers `***`; only the first and the last part may be blank."""
    parts = re.split(r"\s?\*\*\*\s?", response)
    if not all(part.strip() for part in parts[1:-1]):
        return False
    return sum(bool(part.strip()) for part in parts) == num_paragraphs


def nth_paragraph_first_word(
    response: str, language: Language, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Exactly so many paragraphs between blank lines, and the nth begins with the word (or words)."""
    parts = response.split("\n\n")
    if sum(bool(part.strip()) for part in parts) != num_paragraphs or nth_paragraph > num_paragraphs:
        return False
    paragraph = parts[nth_paragraph - 1].strip().lstrip("'" + language.trim).lower()
    follows = r"""(?=[\s.,?!'"]|$)""" if language.spaced else ""  # as published: "Summary:" is another word
    return re.match(re.escape(first_word.strip().lower()) + follows, paragraph) is not None


def number_placeholders(
    response: str, language: Language, *, num_placeholders: int, relation: str | None = None
) -> bool:
    """At least so many `[placeholders]`."""
    return _amount(language, relation, len(re.findall(r"\[.*?\]", response)), num_placeholders)


def postscript(response: str, language: Language, *, postscript_marker: str) -> bool:
    """The marker is in it; a space may follow each of its stops."""
    pieces = [_as_word(piece, language) for piece in postscript_marker.strip().split(".")]
    return re.search(r"\.\s?".join(pieces), response, flags=re.IGNORECASE) is not None


def number_bullets(response: str, language: Language, *, num_bullets: int) -> bool:
    """Exactly so many lines are bullet points."""
    return len(re.findall(language.bullets, response, flags=re.MULTILINE)) == num_bullets


def constrained_response(response: str, language: Language) -> bool:
    """One of the language's fixed answers is in it."""
    return any(answer in response for answer in language.answers)


def number_highlights(
    response: str, language: Language, *, num_highlights: int, relation: str | None = None
) -> bool:
    """At least so many highlighted sections that are not blank."""
    found = sum(bool(text.strip()) for pattern in language.highlights for text in re.findall(pattern, response))
    return _amount(language, relation, found, num_highlights)


def multiple_sections(
    response: str, language: Language, *, section_spliter: str, num_sections: int, relation: str | None = None
) -> bool:
    """At least so many sections begin with the marker and a number."""
    pattern = language.section.replace("{marker}", re.escape(section_spliter.strip()))
    return _amount(language, relation, len(re.findall(pattern, response)), num_sections)


def json_format(response: str, language: Language) -> bool:
    """The whole of it is JSON, in a code fence or not."""
    text = response.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(response: str, language: Language) -> bool:
    """A title that is not blank stands between the language's brackets, in one line."""
    left, right = language.title
    found = re.findall(f"{re.escape(left)}[^\n]+{re.escape(right)}", response)
    return any(text.lstrip(left[0]).rstrip(right[0]).strip() for text in found)


def two_responses(response: str, language: Language) -> bool:
    """Two different answers with `******` between them."""
    parts = response.split("******")
    if not all(part.strip() for part in parts[1:-1]):
        return False
    answers = [part.strip() for part in parts if part.strip()]
    return len(answers) == 2 and answers[0] != answers[1]


def repeat_prompt(response: str, language: Language, *, prompt_to_repeat: str) -> bool:
    """It begins with the prompt; case does not matter."""
    return response.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(response: str, language: Language, *, end_phrase: str) -> bool:
    """It ends with the phrase, quotes around either left out; case does not matter."""
    ending, phrase = (text.strip().strip(language.trim).strip().lower() for text in (response, end_phrase))
    return ending.endswith(phrase)


def quotation(response: str, language: Language) -> bool:
    """It is wrapped in quotation marks."""
    text = response.strip()
    return len(text) > 1 and any(text.startswith(left) and text.endswith(right) for left, right in language.quotes)


def capital_word_frequency(
    response: str, language: Language, *, capital_frequency: int, capital_relation: str
) -> bool:
    """So many words are all in capitals; a word with hyphens is one."""
    found = sum(word.isupper() for word in spellings(response))
    return count(language, capital_relation, found, capital_frequency)


def all_capital(response: str, language: Language) -> bool:
    """It is in the language, and all letters are capitals; the detector is misled by them, and sees small ones."""
    return response.isupper() and detect(response.lower()) == language.code


def all_lowercase(response: str, language: Language) -> bool:
    """It is in the language, and all letters are small."""
    return response.islower() and detect(response) == language.code


def no_comma(response: str, language: Language) -> bool:
    """It has no comma."""
    return not set(language.comma) & set(response)


# By the ids of the task files; a language's name is part of two of them.
CHECKS = {
    "keywords:existence": keywords_existence,
    "keywords:frequency": keywords_frequency,
    "keywords:forbidden_words": keywords_forbidden,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_words": number_words,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullets,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlights,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:{name}_capital": all_capital,
    "change_case:{name}_lowercase": all_lowercase,
    "punctuation:no_comma": no_comma,
}
