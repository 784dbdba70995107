"""What is refused, and languages of one's own."""

import re
import sys
import types
from pathlib import Path

import pytest

from jitune.evals.instructions import table
from jitune.evals.instructions.language import Language, at_least, count, less_than
from jitune.types import UserError

LANGUAGES = table.known()


def shouting(response: str, language: Language, *, marks: int) -> bool:
    return response.count("!") >= marks


GERMAN = Language(
    "de", "german", relations={"mindestens": at_least, "weniger als": less_than}, answers=("Ja.", "Nein."),
    abbreviations={"z.b", "dr"}, quotes=(("„", "“"),), checks={"mood:shouting": shouting},
)


@pytest.mark.parametrize("name, arguments, message", [
    ("keywords:existance", {}, "no instruction 'keywords:existance'; the nearest are keywords:existence"),
    ("ja:letters:kanjis", {}, "the nearest are ja:letters:kanji"),
    ("es:change_case:english_capital", {}, "no instruction 'es:change_case:english_capital'"),
    ("keywords:frequency", {"keyword": "a", "relation": "at least"},
     "keywords:frequency takes keyword, frequency, relation; it lacks frequency"),
    ("punctuation:no_comma", {"count": 2}, "punctuation:no_comma takes no arguments; there is no count"),
    ("keywords:existence", {"keywords": "boat"}, "keywords is 'boat'; list is needed"),
    ("keywords:existence", {"keywords": ["boat", 2]}, "holds something else than texts"),
    ("length_constraints:number_words", {"num_words": "5", "relation": "at least"}, "num_words is '5'; int is needed"),
    ("length_constraints:number_words", {"num_words": 5, "relation": "at most"}, "one of at least, less than"),
    ("language:response_language", {"language": "elvish"}, "language 'elvish' cannot be detected"),
])
def test_refuses(name, arguments, message):
    with pytest.raises(UserError) as error:
        table.bind(LANGUAGES, name, arguments)
    assert message in str(error.value)


def test_arguments_of_none_are_none():
    check = table.bind(LANGUAGES, "punctuation:no_comma", {"keyword": None, "num_words": None})
    assert check("one two")


def test_a_language_of_ones_own(monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    languages = table.known("test_table:GERMAN")
    assert set(languages) == {"en", "es", "fr", "ja", "de"}
    bind = table.bind
    assert bind(languages, "de:startend:quotation", {})("„Ein Boot.“")
    assert not bind(languages, "de:startend:quotation", {})('"Ein Boot."')
    assert bind(languages, "de:detectable_format:constrained_response", {})("Nein.")
    two = {"num_sentences": 2, "relation": "mindestens"}
    sentences = bind(languages, "de:length_constraints:number_sentences", two)
    assert sentences("Dr. Au kam. Er aß.") and not sentences("Z.B. Dr. Au kam.")
    assert bind(languages, "de:mood:shouting", {"marks": 2})("Los!!")
    capital = bind(languages, "de:change_case:german_capital", {})
    assert capital("DAS KLEINE BOOT FÄHRT HEUTE NICHT MEHR AUS DEM HAFEN.") and not capital("Das kleine Boot")
    with pytest.raises(UserError, match="int is needed"):
        bind(languages, "de:mood:shouting", {"marks": "2"})


def test_the_language_of_the_documentation(monkeypatch):
    text = (Path(__file__).parents[3] / "docs" / "instructions.md").read_text()
    module = types.ModuleType("documented")
    monkeypatch.setitem(sys.modules, "documented", module)
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], vars(module))
    check = table.bind(table.known("documented:GERMAN"), "de:special_character:umlauts", {"num_words": 2})
    assert check("Ein schöner Tag in Österreich") and not check("Ein schöner Tag")


@pytest.mark.parametrize("word", ["no_such_module:X", "json:nothing", "json:dumps", "json"])
def test_what_is_no_language(word):
    with pytest.raises(UserError, match=f"language {word}: "):
        table.known(word)


def test_a_relation_that_does_not_exist():
    with pytest.raises(UserError, match="relation 'at most' is not one of english's: at least, less than"):
        count(LANGUAGES["en"], "at most", 1, 2)
