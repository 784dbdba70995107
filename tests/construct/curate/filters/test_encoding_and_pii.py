"""Damage and personal data: what is found, what looks like it and is not, and redaction of every text."""

import pytest

from jitune.construct.curate.filters import empty, encoding, mojibake, pii, pii_patterns, units
from jitune.construct.curate.stage import Keep, Reject
from jitune.data.record import Annotation, Candidate, Record
from jitune.types import UserError

SENTENCES = ("C'est l'été à Paris, «ÉTÉ» !", "Não, IRMÃ: a maçã é “BOA”…", "Tôi không hiểu. HÀ NỘI, ÂM NHẠC",
             "Ænima and Þór",
             "Привет, как дела?", "中文和日本語、かな", "Straße über Köln – schön", "jusqu'à… là»…", "naïve façade",
             "Ελληνικά",
             "المدينة الجميلة", "İstanbul'da güneş")


def record(answer, prompt="Say it."):
    return Record("id", ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer}))


@pytest.mark.parametrize("text", SENTENCES)
def test_sound_text_is_no_mojibake(text):
    assert mojibake.find(text) == []


@pytest.mark.parametrize("wrong", ("cp1252", "latin-1"))
@pytest.mark.parametrize("text", ("l'été à la mer", "It’s a “test” – yes", "Привет", "中文文本", "£5 and 20 °C",
                         "Καλημέρα",
                                  "שלום עולם", "नमस्ते", "wait… 😀"))
def test_text_decoded_wrongly_is_found(text, wrong):
    damaged = text.encode().decode(wrong, "replace").replace("\ufffd", "\u0081")
    assert mojibake.find(damaged)
    assert encoding.build().judge(record(damaged)).reason == "mojibake"


@pytest.mark.parametrize("word", ("iPhoneом", "Facebookе", "DVDшный", "μm", "Tシャツ", "Δt", "USB-кабель",
                         "Beograd Београд"))
def test_words_of_two_scripts_that_people_write(word):
    assert isinstance(encoding.build().judge(record(f"It is {word}.")), Keep)


@pytest.mark.parametrize("word", ("раypal", "Gооgle", "micrоsоft", "Cкачать", "Αpple"))
def test_letters_in_disguise(word):
    assert encoding.build().judge(record(f"See {word} now")).reason == "mixed_scripts"


def test_html_is_damage_in_prose_and_an_answer_to_code():
    judge = encoding.build().judge
    assert judge(record("Fish &amp; chips are good.")).reason == "html"
    assert judge(record("It is <span class='x'>big</span>.")).reason == "html"
    assert isinstance(judge(record("Use `&amp;` here.")), Keep)
    assert isinstance(judge(record("<p>Hello</p>", "Write HTML for a greeting.")), Keep)
    assert isinstance(judge(record("```html\n<div>a</div>\n```")), Keep)


def test_emoji_and_joiners_are_no_flood_and_question_marks_may_be_emphatic():
    judge = encoding.build().judge
    for text in ("👨‍👩‍👧‍👦" * 20, "می‌خواهم می‌روم", "🏴󠁧󠁢󠁥󠁮󠁧󠁿 plays", "What?????", "1, 2, ????"):
        assert isinstance(judge(record(text)), Keep), text
    assert judge(record("?????? ???? ??? ???????")).reason == "question_marks"
    assert judge(record("Hi\U000e0041\U000e0042 there")).reason == "invisible_characters"


@pytest.mark.parametrize("answer", ("N/A", "n / a.", "None", "<noinput>", "nicht verfügbar", "不适用", "該当なし",
                         "해당 없음", "لا يوجد",
                                    "लागू नहीं", "Нет данных"))
def test_answers_that_are_none(answer):
    assert empty.build().judge(record(answer)).reason == "not_available"
    assert isinstance(empty.build(not_available=False).judge(record(answer)), Keep) or answer == "<noinput>"


@pytest.mark.parametrize(("prompt", "answer"), (
    ("Is this good, bad or none?", "None"), ("Which tag breaks a line in HTML?", "<br>"), ("2 - 2?", "0"), ("Happy?",
    "😀"),
    ("Split it.\n\nOne. Two.", "One.\n\nTwo."), ("Which sign adds?", "+"), ("Is it?", "否")))
def test_short_answers_that_say_something(prompt, answer):
    assert isinstance(empty.build().judge(record(answer, prompt)), Keep)


def test_words_are_counted_alike_in_translations(shared):
    """Over MGSM, words of each language stand within a third of the English words."""
    def count(language):
        lines = (shared / f"data/eval_multilingual/mgsm/mgsm_{language}.tsv").read_text().splitlines()
        return sum(units.words(line.split("\t")[0]) for line in lines)

    english = count("en")
    for language in ("zh", "ja", "th", "de", "es", "fr", "ru", "sw", "bn", "te"):
        assert 0.75 < count(language) / english < 1.33, language


def test_words_by_hand():
    assert units.words("The well-known cat's 3 hats -- sat.") == 6
    assert units.words("猫坐在垫子上。") == 4  # 6 / 1.5
    assert units.words("हिन्दी में लिखो") == 3
    assert units.words("… !!") == 0


FOUND = {
    "email": ("ann@acme.io", "mañana.lópez@correo.es"),
    "phone": ("+49 30 901820", "(212) 736-5000", "212-736-5000", "+86 138 1234 5679", "01 42 68 53 00"),
    "iban": ("DE75512108001245126199", "FR76 3000 6000 0112 3456 7890 189"),
    "credit_card": ("4539 5787 6362 1486", "4539578763621486"),
    "us_ssn": ("536-22-8726",),
    "ipv4": ("93.184.216.34",),
    "ipv6": ("2a00:1450:4001:81b:0:0:0:200e",),
    "mac": ("3c:22:fb:9a:10:7e",),
    "api_key": ("AKIAQ3EGRTZ7WPLM4DXV", "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2),
    "private_key": ("-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEow" * 20 + "\n-----END RSA PRIVATE KEY-----",),
}
NOBODYS = ("ann@example.com", "x@mail.example.org", "user@localhost.test", "192.168.0.1", "10.0.0.7", "203.0.113.9",
           "127.0.0.1",
           "version 4.12.0.1", "2001:db8::1", "::1", "4111 1111 1111 1111", "1234-5678-9012-3456", "078-05-1120",
           "000-12-3456",
           "(212) 555-0123", "1 2 3 4 5 6 7 8 9 10 11 12", "12:30:45", "3.14159265358979", "2024-01-31",
           "DE00 1234 5678",
           "AKIAIOSFODNN7EXAMPLE", "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "@user", "00:11:22:33:44:55", "1,234,567,890",
           "std::vector")


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_personal_data_is_found_whole(kind, text):
    around = f"See {text} please."
    assert pii_patterns.find(around, pii_patterns.KINDS) == [pii_patterns.Match(kind, 4, 4 + len(text))]
    assert pii_patterns.find(around, ()) == []


@pytest.mark.parametrize("text", NOBODYS)
def test_what_is_nobodys_is_left(text):
    assert pii_patterns.find(f"See {text} please.", pii_patterns.KINDS) == []


def test_checks_of_figures():
    assert pii_patterns.luhn("79927398713") and not pii_patterns.luhn("79927398710")  # ISO/IEC 7812-1's worked example
    assert pii_patterns.iban("BE71 0961 2345 6769") and not pii_patterns.iban("BE72 0961 2345 6769")


def test_every_text_is_redacted():
    mail = "ann@acme.io"
    call = [{"type": "function", "function": {"name": "send", "arguments": {"to": [mail]}}}]
    said = ({"role": "assistant", "content": mail, "reasoning_content": f"I use {mail}", "tool_calls": call},)
    one = Record("id", said, chosen=said, rejected=said, candidates=(Candidate(said),), meta={"note": {"by": mail}},
                 annotations=(Annotation("ann", "q", f"{mail}!"),))
    clean = pii.build().judge(one).record
    assert "acme" not in repr(clean) and clean.messages[0]["content"] == "[EMAIL]"
    assert clean.meta["pii"] == {"email": 14} and clean.provenance.steps == ("redact_pii",)
    assert one.messages[0]["content"] == mail
    assert pii.build().judge(Record("id", text=((mail, 0.0), ("b", 1.0)))).record.text == (("[EMAIL]", 0.0), ("b", 1.0))
    rejected = pii.build(action="reject").judge(one)
    assert rejected.reason == "pii" and rejected.detail == "14 email" and "acme" not in repr(rejected)
    untouched = record("nothing")
    assert pii.build().judge(untouched).record is untouched


def test_presidio_or_what_to_install():
    try:
        import presidio_analyzer  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r"pip install 'jitune\[pii\]'"):
            pii.build(engine="presidio")
        pytest.skip("presidio is not installed")
    verdict = pii.build(engine="presidio", action="reject").judge(record("Mail ann@acme.io"))
    assert isinstance(verdict, Reject) and verdict.detail == "1 email_address"
    with pytest.raises(UserError, match="'FOO' is not known"):
        pii.build(engine="presidio", entities="FOO")
