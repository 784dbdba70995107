"""Every instruction of every language with answers that follow it and answers that do not, written by hand."""

import sys

import pytest

from jitune.evals.instructions import table
from jitune.evals.instructions.detect import _factory, detect
from jitune.evals.instructions.language import split_sentences
from jitune.types import UserError

LANGUAGES = table.known()
FRENCH_TEXT = "Le petit bateau rouge quitte le port avant la nuit et les enfants le regardent partir."
SPANISH_TEXT = "El pequeño barco rojo sale del puerto antes de la noche y los niños lo miran desde la playa."
ENGLISH_TEXT = "The small red boat leaves the harbour before the night and the children watch it from the beach."

# id: (arguments, answers that follow, answers that do not)
ENGLISH = {
    "keywords:existence": (
        {"keywords": ["boat", "c++"]}, ["Boats in C++", "a boat; c++"], ["boat", "C++ only", "boat ccc"]),
    "keywords:frequency": (
        {"keyword": "red ", "frequency": 2, "relation": "at least"}, ["Red, redder", "red red red"], ["red", "blue"]),
    "keywords:forbidden_words": (
        {"forbidden_words": ["sea", "a.b"]}, ["A season", "seaside", "axb"], ["The Sea.", "sea", "a.b"]),
    "keywords:letter_frequency": (
        {"letter": "O", "let_frequency": 3, "let_relation": "less than"}, ["foo", "none"], ["oOo", "Go on to it"]),
    "language:response_language": ({"language": "fr"}, [FRENCH_TEXT], [ENGLISH_TEXT, SPANISH_TEXT, "12 + 3"]),
    "length_constraints:number_sentences": (
        {"num_sentences": 3, "relation": "at least"}, ["One. Two! Three?", "A dog\nsat. It ate. it slept."],
        ["Dr. A. Smith met Mr. Li. They ate.", "One, e.g. this one. Two", "3.5 is more. Really"]),
    "length_constraints:number_words": (
        {"num_words": 4, "relation": "less than"}, ["one two three", "it's it"], ["one two-three four", "a b c d e"]),
    "length_constraints:number_paragraphs": (
        {"num_paragraphs": 2}, ["One\n***\nTwo", "***\nOne\n***\nTwo\n***"],
        ["One", "One\n***\n***\nTwo", "1***2***3"]),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Now"},
        ["One.\n\nNow, two.", "One.\n\n\"now\" two", "1\n\nnow"],
        ["One.\n\nNowhere.", "Now.\n\nTwo", "One.\n\nNow.\n\nThree.", "One. Now", "One\n\nNow: two"]),
    "detectable_content:number_placeholders": (
        {"num_placeholders": 2}, ["[name] of [place]", "[a][b][c]"], ["[name]", "(a) (b)", "[a\nb] [c]"]),
    "detectable_content:postscript": (
        {"postscript_marker": "P.S."}, ["Bye.\nP.S. One more.", "p. s. more"], ["Bye. PS more", "ups.", "Bye."]),
    "detectable_format:number_bullet_lists": (
        {"num_bullets": 2}, ["* one\n* two", "- one\n  * two", "Text\n- a\n- b\nText"],
        ["* one", "* a\n* b\n- c", "**bold**\n* a", "a * b\nc - d"]),
    "detectable_format:constrained_response": (
        {}, ["My answer is yes.", "Well. My answer is maybe."], ["Yes.", "My answer is yes", "my answer is no."]),
    "detectable_format:number_highlighted_sections": (
        {"num_highlights": 2}, ["*one* and *two*", "**one** and *two*"],
        ["*one*", "**one**", "* * and *one*", "2 * 3"]),
    "detectable_format:multiple_sections": (
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\na\nSection 2\nb", "Section1 Section 2 Section 3"],
        ["Section 1", "SECTION 1 SECTION 2", "Section A Section B"]),
    "detectable_format:json_format": (
        {}, ['{"a": [1, 2]}', '```json\n{"a": 1}\n```', '```\n[]\n```'],
        ["{'a': 1}", 'Here: {"a": 1}', "```json\n```"]),
    "detectable_format:title": ({}, ["<<A boat>>\nText", "Text <<x>> text"], ["<A boat>", "<< >>", "<<A\nboat>>"]),
    "combination:two_responses": (
        {}, ["One\n******\nTwo", "******One******Two"], ["One", "One******One", "1******2******3", "1************2"]),
    "combination:repeat_prompt": (
        {"prompt_to_repeat": "Say hello."}, ["say hello. Hello!", " Say hello."], ["Hello!", "You say: Say hello."]),
    "startend:end_checker": (
        {"end_phrase": "That is all."},
        ["Yes. that is all.", '"Yes. That is all." '], ["That is all. Bye", "That is all"]),
    "startend:quotation": ({}, ['"A boat."', ' "" '], ['"A boat', "'A boat.'", '"', 'So "it" is']),
    "change_case:capital_word_frequency": (
        {"capital_frequency": 2, "capital_relation": "at least"}, ["NASA and ESA", "TOP-DOWN, A"],
        ["NASA", "TOP-DOWN", "Nasa Esa"]),
    "change_case:english_capital": (
        {}, [ENGLISH_TEXT.upper()], [ENGLISH_TEXT, SPANISH_TEXT.upper(), ENGLISH_TEXT.upper() + " x"]),
    "change_case:english_lowercase": ({}, [ENGLISH_TEXT.lower()], [ENGLISH_TEXT, FRENCH_TEXT.lower()]),
    "punctuation:no_comma": ({}, ["No comma; none."], ["One, two"]),
}
SPANISH = {
    "es:keywords:frequency": (
        {"keyword": "éxito", "frequency": 1, "relation": "como máximo"}, ["Un éxito.", "Nada."], ["Éxito y éxito"]),
    "es:length_constraints:number_sentences": (
        {"num_sentences": 2, "relation": "como máximo"}, ["El Sr. Gil vino. ¿Y tú?", "Son las 5 p. m. en punto."],
        ["Uno. Dos. Tres.", "¡Hola! ¿Qué tal? Bien."]),
    "es:length_constraints:number_words": (
        {"num_words": 3, "relation": "al menos"}, ["Uno, dos y tres"], ["Uno dos", "Un coche-cama"]),
    "es:length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "En mi opinión"}, ["En mi opinión, sí.\n\nDos."],
        ["En mi casa.\n\nDos.", "Sí.\n\nEn mi opinión"]),
    "es:detectable_content:number_placeholders": (
        {"num_placeholders": 2, "relation": "como máximo"}, ["[a] y [b]", "nada"], ["[a] [b] [c]"]),
    "es:detectable_content:postscript": (
        {"postscript_marker": "Nota"}, ["Fin.\nNota: algo.", "NOTA algo"], ["Fin.", "Es notable. Lo denota."]),
    "es:detectable_format:number_bullet_lists": ({"num_bullets": 1}, ["* uno\n- dos"], ["- uno"]),
    "es:detectable_format:constrained_response": ({}, ["Sí.", "Quizás."], ["Sí", "si."]),
    "es:detectable_format:number_highlighted_sections": (
        {"num_highlights": 1, "relation": "al menos"}, ["*uno*"], ["uno"]),
    "es:detectable_format:multiple_sections": (
        {"section_spliter": "SECCIÓN", "num_sections": 2, "relation": "al menos"}, ["SECCIÓN 1 a SECCIÓN 2"],
        ["SECCIÓN 1", "Sección 1 Sección 2"]),
    "es:startend:end_checker": (
        {"end_phrase": "¿Necesitas algo más?"}, ["Sí. ¿necesitas algo más?"], ["¿Necesitas algo más? Adiós"]),
    "es:change_case:spanish_capital": ({}, [SPANISH_TEXT.upper()], [SPANISH_TEXT, ENGLISH_TEXT.upper()]),
    "es:change_case:spanish_lowercase": ({}, [SPANISH_TEXT.lower()], [SPANISH_TEXT, ENGLISH_TEXT.lower()]),
    "es:punctuation:question_marks": ({}, ["¿Vienes?", "Hola. ¿Tú\ny yo?"], ["Vienes?", "¿?", "¿ ?", "¿Vienes"]),
    "es:punctuation:exclamation_marks": ({}, ["¡Hola!"], ["Hola!", "¡!", "¡Hola"]),
    "es:special_character:enie": (
        {"let_frequency": 2}, ["Niño y AÑO", "ñoño y año"], ["niño", "niño, año, caña", "nino y ano"]),
    "es:special_character:dieresis": ({"let_frequency": 1}, ["Un pingüino"], ["Un pinguino", "pingüino y cigüeña"]),
    "es:special_character:tildes": (
        {"num_words": 2, "relation": "como máximo"}, ["Él cantó", "ñ y ü"], ["Él cantó más"]),
}
FRENCH = {
    "fr:keywords:frequency": (
        {"keyword": "mot", "frequency": 2, "relation": "moins de"}, ["Un mot."], ["Mot à mot"]),
    "fr:keywords:letter_frequency": (
        {"letter": "é", "let_frequency": 2, "let_relation": "au moins"}, ["Été", "été"], ["ete", "né"]),
    "fr:language:response_language": ({"language": "zh"}, ["这艘红色的小船在夜晚之前离开了港口。"], [FRENCH_TEXT]),
    "fr:length_constraints:number_sentences": (
        {"num_sentences": 2, "relation": "au moins"}, ["M. Roy est là. Il mange.", "Quoi ? Rien !"],
        ["M. Roy est là", "P.ex. celui-ci"]),
    "fr:detectable_content:postscript": (
        {"postscript_marker": "p.-s."}, ["Fin.\nP.-S. Encore.", "p. -s. un"], ["P.S. Encore", "Fin."]),
    "fr:detectable_format:constrained_response": ({}, ["Peut-être.", "Oui."], ["oui", "Peut-etre."]),
    "fr:detectable_format:title": ({}, ["##Un bateau##\nTexte"], ["## Un bateau\nTexte", "<<Un bateau>>", "####"]),
    "fr:startend:end_checker": (
        {"end_phrase": "D'autres questions ?"}, ["Oui. D'autres questions ?", "« Oui. D'autres questions ? »"],
        ["Oui."]),
    "fr:startend:quotation": ({}, ["« Oui. »", '"Oui."', "“Oui.”"], ["« Oui.", "Oui.", '«Oui."']),
    "fr:change_case:french_capital": ({}, [FRENCH_TEXT.upper()], [FRENCH_TEXT, ENGLISH_TEXT.upper()]),
    "fr:change_case:french_lowercase": ({}, [FRENCH_TEXT.lower()], [FRENCH_TEXT, ENGLISH_TEXT.lower()]),
    "fr:special_character:ethel_or_cedilla": ({"forbidden_char": "œ"}, ["Un coeur, ça va"], ["Un cœur", "ŒUVRE"]),
    "fr:special_character:no_accents": ({}, ["Un bateau, un coeur"], ["Été", "Noël", "ça", "ete\u0301"]),
    "fr:special_character:accents": (
        {"word_to_accentuate": {"lecon": "leçon", "ete": "été"}}, ["Une Leçon", "l'été, la leçon"],
        ["Une lecon", "l'été, la lecon", "l'éte et une leçon", "autre chose"]),
    "fr:detectable_content:no_digits": ({}, ["mille"], ["1789", "le XXe et 2"]),
    "fr:detectable_content:informal_address": (
        {}, ["Tu viens.", "Je t'aime", "ta maison"], ["Vous venez.", "tue-moi", "Il est là."]),
}
JAPANESE = {
    "ja:keywords:existence": ({"keywords": ["夢", "現実"]}, ["夢と現実的な話"], ["夢だけ"]),
    "ja:keywords:frequency": (
        {"keyword": "アプリ", "frequency": 2, "relation": "以上"}, ["アプリとアプリ。"], ["アプリ", "あぷりとあぷり"]),
    "ja:keywords:forbidden_words": ({"forbidden_words": ["肌", "治療"]}, ["美容の話"], ["肌の話", "治療法"]),
    "ja:keywords:letter_frequency": (
        {"letter": "か", "let_frequency": 2, "let_relation": "未満"}, ["カ", "が"], ["かカ", "かかか"]),
    "ja:length_constraints:number_sentences": (
        {"num_sentences": 2, "relation": "以上"}, ["一つ。二つ！", "一つ\n二つ", "本当ですか？はい。"],
        ["一つだけ。", "彼は「行く。帰る。」と言った。", "本当！？"]),
    "ja:length_constraints:number_letters": ({"num_letters": 3, "relation": "未満"}, ["赤い"], ["赤い船"]),
    "ja:length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "代謝"}, ["一。\n\n代謝とは", "一。\n\n「代謝」は"],
        ["代謝\n\n一。", "一。\n\nこの代謝"]),
    "ja:detectable_content:postscript": (
        {"postscript_marker": "追伸"}, ["では。\n追伸：一つ", "追伸です"], ["では。", "P.S. 一つ"]),
    "ja:detectable_format:number_bullet_lists": (
        {"num_bullets": 2}, ["・一\n・二", "* 一\n- 二\n---"], ["・一", "・・一\n・二"]),
    "ja:detectable_format:number_numbered_lists": (
        {"num_items": 2}, ["1. 一\n2. 二", "表:\n 1. 一\n10. 二"], ["1. 一", "1.一\n2.二", "1. 一\n2. 二\n3. 三"]),
    "ja:detectable_format:constrained_response": ({}, ["はい、そうです。", "どちらとも言えません。"], ["はい。"]),
    "ja:detectable_format:number_highlighted_sections": (
        {"num_highlights": 2}, ["《一》と《二》"], ["《一》", "《》《 》"]),
    "ja:detectable_format:multiple_sections": (
        {"section_spliter": "章", "num_sections": 2}, ["第1章\n一\n第２章\n二"], ["第1章", "第一章 第二章", "1章 2章"]),
    "ja:detectable_format:title": ({}, ["『喜びの詩』\n本文"], ["「喜びの詩」", "『』"]),
    "ja:detectable_format:nominal_ending": (
        {"count": 2}, ["美しい町。静かな海！", "旅の始まり。大切なこと。", "夏はビール。町（古都）。"],
        ["美しい町。海は静かです。", "走る。食べた。高い。", "「町。海。」と言った。"]),
    "ja:startend:end_checker": (
        {"end_phrase": "以上です。」"}, ["一。以上です。", "「一。以上です。」"], ["以上です。では。"]),
    "ja:startend:quotation": ({}, ["「一。」"], ["『一。』", "「一", '"一"']),
    "ja:startend:sentence_unified_end": (
        {"ending": "です"}, ["赤です。青です！\n", "彼は「行くよ。」が口癖です。"], ["赤です。青だ。", "赤でした。"]),
    "ja:letters:furigana": (
        {}, ["漢字（かんじ）を書（か）く", "人々（ひとびと）", "かなだけ"],
        ["漢字を書（か）く", "漢字(かんじ)", "漢字（カンジ）"]),
    "ja:letters:kanji": ({"kanji_limit": 2, "relation": "以上"}, ["漢字", "赤い船"], ["赤い", "かな"]),
    "ja:letters:no_hiragana": ({}, ["漢字、カナ"], ["漢字の"]),
    "ja:letters:hiragana_only": ({}, ["ひらがな、だけ！ 12", "らーめん"], ["ひらガナ", "漢字", "abc", "12"]),
    "ja:letters:no_katakana": ({}, ["ひらがなと漢字"], ["カナ", "ｶﾅ"]),
    "ja:letters:katakana_only": ({}, ["カタカナ、ラーメン・１"], ["カタかな", "漢字"]),
    "ja:letters:kansuuji": ({}, ["二〇二四年"], ["2024年", "２０年"]),
    "ja:punctuation:no_period": ({}, ["すごい！"], ["すごい。"]),
    "ja:punctuation:no_comma": ({}, ["赤と青"], ["赤、青"]),
}
TABLE = {**ENGLISH, **SPANISH, **FRENCH, **JAPANESE}


@pytest.mark.parametrize("name", TABLE)
def test_follows_and_does_not(name):
    arguments, good, bad = TABLE[name]
    check = table.bind(LANGUAGES, name, arguments)
    assert [text for text in good if not check(text)] == []
    assert [text for text in bad if check(text)] == []


def test_the_table_has_every_english_instruction_and_every_one_of_a_language_alone():
    assert set(ENGLISH) == set(table.checks_of(LANGUAGES["en"]))
    for code in ("es", "fr", "ja"):
        alone = {f"{code}:{name}" for name in LANGUAGES[code].checks}
        assert alone <= set(TABLE)


@pytest.mark.parametrize("name", [n for n in ENGLISH if "english" not in n and n not in (
    "detectable_format:constrained_response", "detectable_format:title", "startend:quotation")])
def test_what_is_the_same_in_french(name):
    """French differs in its answers, titles and quotes; the rest of IFEval holds of any text."""
    arguments, good, bad = ENGLISH[name]
    words = {"at least": "au moins", "less than": "moins de"}
    check = table.bind(LANGUAGES, f"fr:{name}", {k: words.get(v, v) if isinstance(v, str) else v
                                                 for k, v in arguments.items()})
    if name == "length_constraints:number_sentences":  # its abbreviations are English
        bad = bad[2:]
    assert all(map(check, good)) and not any(map(check, bad))


def test_a_letter_that_is_none_is_never_followed():
    for relation in ("at least", "less than"):
        arguments = {"letter": "#", "let_frequency": 2, "let_relation": relation}
        check = table.bind(LANGUAGES, "keywords:letter_frequency", arguments)
        assert not check("# # # #") and not check("none")


def test_sentences():
    text = 'Dr. Lee (b. 1950) met J. Doe at 3.14 p.m. in the U.S. Senate... and left! "Why?" he asked. It\'s over'
    assert split_sentences(text, {"dr", "p.m", "u.s"}) == [
        "Dr. Lee (b. 1950) met J. Doe at 3.14 p.m. in the U.S. Senate... and left!", '"Why?"', "he asked.", "It's over"]
    assert split_sentences('{"a": "One.", "b": "Two."}') == ['{"a": "One.",', '"b": "Two."}']
    assert split_sentences("") == split_sentences(" \n ") == []


ODD = ("", "\x00", "\ud800", "ᎠᎡᎢ", "http://a.b", "🦉 🦉", "[" * 2000, "1" * 9999, "*" * 999, "<<>>" * 99, "\n" * 999,
       "." * 9999)


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_no_answer_breaks_a_check(text):
    for name, (arguments, _, _) in TABLE.items():
        assert table.bind(LANGUAGES, name, arguments)(text) in (True, False)


def test_the_detector_says_the_same_every_time():
    assert [detect(FRENCH_TEXT), detect(SPANISH_TEXT), detect("これは日本語の文章です。"), detect("12")] == [
        "fr", "es", "ja", ""]
    unsure = "coastal elegance properties"
    assert len({detect(unsure) for _ in range(20)}) == 1


def test_a_package_that_lacks_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "langdetect", None)
    _factory.cache_clear()
    with pytest.raises(UserError, match=r"need langdetect: pip install 'jitune\[eval\]'"):
        detect("text")
    _factory.cache_clear()
