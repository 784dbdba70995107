"""Back-translation: instructions for documents, their scores, seeds, segments, and models that do badly."""

import re

import pytest

from jitune.construct.distill import backtranslate, backtranslate_prompts
from jitune.construct.distill.backtranslate import pieces
from jitune.construct.reading import read_records
from jitune.data.record import Provenance, Record, named
from jitune.generators.call import Lost, Reply
from jitune.generators.replay import Replay
from jitune.types import UserError
from tests.construct.distill.teachers import ask_record, given, reasons, run_all

WORDS = [a + b for a in "bel cor dan fal gor hin jul kel lom mar".split() for b in "a en ith os und".split()]
SEED_TAG, WEB_TAG = "Answer in the style of an AI Assistant.", "Answer with knowledge from web search."


def document(number: int, count: int = 40) -> Record:
    text = " ".join(WORDS[(number * 7 + i * (number + 3)) % 50] for i in range(count))
    return named(Record("", text=((text, 1.0),), meta={"url": f"u{number}"},
                        provenance=Provenance(source=f"web.jsonl:{number}", license="ODC-BY")))


DOCUMENTS = [document(i) for i in range(1, 6)]


def options(**more):
    return backtranslate.defaults() | {"step": 2} | more


def kind(call) -> str:
    return "score" if "'Score: '" in call.prompt[-1][1] else "instruct"


def about(call) -> str:
    return re.search(r"<(?:text|answer)>\n(.*?)\n</", call.prompt[-1][1], re.DOTALL)[1]


def good(call):
    if kind(call) == "score":
        return "It does all of it.\nScore: 5"
    return f"What is said of {about(call).split()[0]} and of {len(about(call))} others?"


def but(part, reply):
    return lambda call: reply if kind(call) == part else good(call)


def test_documents_become_answers():
    teacher = Replay(good)
    kept, rejected, state = run_all(backtranslate, given(teacher, DOCUMENTS, options()))
    assert rejected == [] and len(kept) == 5 and state == {"at": 5}
    first, text = kept[0], DOCUMENTS[0].text[0][0]
    assert [m["role"] for m in first.messages] == ["system", "user", "assistant"]
    assert first.messages[0]["content"] == WEB_TAG and first.messages[2]["content"] == text
    assert first.messages[1]["content"] == f"What is said of {text.split()[0]} and of {len(text)} others?"
    assert first.scores == {"backtranslation": 5.0}
    assert first.meta == {"url": "u1", "backtranslated": {"row": 0, "scores": [5.0]}}
    made = first.provenance
    assert (made.parents, made.source, made.license) == ((DOCUMENTS[0].id,), "web.jsonl:1", "ODC-BY")
    assert made.sampling == {"max_tokens": 256, "temperature": 0.7, "top_p": 0.9} and made.method == "backtranslate"
    assert next(c for c in teacher.asked if kind(c) == "score").temperature == 0


def test_seeds_go_along_with_their_own_tag():
    seeds = [ask_record("Name a prime.", answer="7"), ask_record("Who?", answer="I.", system="Be brief.")]
    kept, rejected, _ = run_all(backtranslate, given(good, [*seeds, DOCUMENTS[0], ask_record("Nobody answers?")],
                                                    options()))
    assert [[m["content"] for m in r.messages] for r in kept[:2]] == [
        [SEED_TAG, "Name a prime.", "7"], ["Be brief.", "Who?", "I."]]
    assert kept[0].provenance.source == "seeds.jsonl:1" and kept[0].provenance.steps == ("add_system",)
    assert kept[2].messages[0]["content"] == WEB_TAG and reasons(rejected) == {"no_text": 1}
    plain = options(keep_seeds=False, system="")
    kept, *_ = run_all(backtranslate, given(good, [*seeds, DOCUMENTS[0]], plain))
    assert len(kept) == 1 and len(kept[0].messages) == 2


def test_two_models_one_writes_and_one_scores():
    writer, scorer = Replay(good, name="backward"), Replay(good, name="forward")
    kept, *_ = run_all(backtranslate, given(scorer, DOCUMENTS, options(backward="second"), second=writer))
    assert {kind(c) for c in writer.asked} == {"instruct"} and {kind(c) for c in scorer.asked} == {"score"}
    assert {r.provenance.model for r in kept} == {"backward"}
    tuned = Replay(lambda call: f"What of {call.prompt[0][1].split()[0]}?")
    kept, *_ = run_all(backtranslate, given(scorer, DOCUMENTS[:1], options(
        backward="second", backward_prompt="plain"), second=tuned))
    assert tuned.asked[0].prompt == (("user", DOCUMENTS[0].text[0][0]),) and len(kept) == 1
    with pytest.raises(UserError, match="backward=second: config.second.model is not set"):
        run_all(backtranslate, given(good, DOCUMENTS, options(backward="second")))


@pytest.mark.parametrize(("part", "reply", "reason"), [
    ("instruct", "", "empty_answer"), ("instruct", Reply("What is", "length"), "cut"),
    ("instruct", "I'm sorry, but I can't help with that.", "refusal"), ("instruct", Lost("too_long"), "too_long"),
    ("instruct", "say it and say it again " * 30, "loop"), ("instruct", Lost("failed", "HTTP 500"), "failed"),
    ("score", "Score: 4", "low_score"), ("score", "Score: 1", "low_score"), ("score", "Score: 6", "unscored"),
    ("score", "Score: five", "unscored"), ("score", "Lovely!", "unscored"), ("score", "", "unscored"),
    ("score", Reply("It is all of what", "length"), "unscored"), ("score", Lost("filtered"), "filtered"),
])
def test_bad_models_are_counted_rejections(part, reply, reason):
    kept, rejected, _ = run_all(backtranslate, given(but(part, reply), DOCUMENTS, options()))
    assert kept == [] and reasons(rejected) == {reason: 5}
    assert [one.source for one in rejected] == [f"web.jsonl:{i}" for i in range(1, 6)]


def test_an_instruction_that_copies_its_document():
    kept, rejected, _ = run_all(backtranslate, given(lambda c: about(c) if kind(c) == "instruct" else good(c),
                                                     DOCUMENTS, options()))
    assert kept == [] and reasons(rejected) == {"copies_document": 5}
    part = but("instruct", " ".join(DOCUMENTS[0].text[0][0].split()[5:27]))
    kept, rejected, _ = run_all(backtranslate, given(part, DOCUMENTS[:1], options()))
    assert reasons(rejected) == {"copies_document": 1}


def test_scores_are_averaged_and_the_edge_is_kept():
    said = {0: "Score: 5", 1: "score: **4**", 2: "no idea"}

    def judge(call):
        return said[call.seed] if kind(call) == "score" else good(call)

    three = options(scores=3, score_temperature=0.7)
    kept, *_ = run_all(backtranslate, given(judge, DOCUMENTS[:1], three))
    assert kept[0].scores == {"backtranslation": 4.5}
    assert kept[0].meta["backtranslated"]["scores"] == [5.0, 4.0]
    _, rejected, _ = run_all(backtranslate, given(judge, DOCUMENTS[:1], three | {"threshold": 4.6}))
    assert rejected[0].detail == "4.5, at least 4.6" and "no idea" in rejected[0].text
    said[1] = Lost("budget", "$1")  # the step will be asked again, so that no average of fewer is kept
    kept, rejected, _ = run_all(backtranslate, given(judge, DOCUMENTS[:1], three))
    assert kept == [] and reasons(rejected) == {"budget": 1}


def test_documents_that_will_not_do():
    records = [document(1, 29), document(2, 1501), DOCUMENTS[2], DOCUMENTS[2], named(Record("", text=((" \n", 1.0),))),
               named(Record("", text=(("Q:", 0.0), ("A", 1.0))))]
    kept, rejected, _ = run_all(backtranslate, given(good, records, options()))
    assert len(kept) == 1
    assert reasons(rejected) == {"too_short": 1, "too_long": 1, "duplicate_document": 1, "no_text": 2}


def test_segments_by_paragraphs():
    four, two, six = ("one two three four", "five six", "seven eight nine ten eleven twelve")
    found = list(pieces(f"{four}\n{two}\n{six}", "paragraphs", 4, 8))
    assert found == [(f"{four}\n\n{two}", "", ""), (six, "", "")]
    assert [p for p, *_ in pieces(f"{two}\n\n{two}\nmore\n\n{four}", "paragraphs", 4, 8)] == [
        f"{two}\n\n{two}\nmore", four]
    assert [reason for _, reason, _ in pieces(f"{two}\n{six} {four}", "paragraphs", 4, 8)] == ["too_short", "too_long"]
    assert list(pieces(f"{four}\n{two}", "whole", 1, 9)) == [(f"{four}\n{two}", "", "")]
    record = named(Record("", text=((f"{' '.join(WORDS[:40])}\n{' '.join(WORDS[10:])}", 1.0),)))
    kept, *_ = run_all(backtranslate, given(good, [record], options(segment="paragraphs", max_words=50)))
    assert [r.messages[2]["content"] for r in kept] == [" ".join(WORDS[:40]), " ".join(WORDS[10:])]
    assert {r.provenance.parents for r in kept} == {(record.id,)}
    twice = named(Record("", text=((f"{record.text[0][0]}\n{' '.join(WORDS[:40])}", 1.0),)))
    _, low, _ = run_all(backtranslate, given(but("score", "Score: 1"), [twice], options(segment="paragraphs",
                                                                                    max_words=50)))
    assert reasons(low) == {"duplicate_document": 1, "low_score": 2} and {r.record.id for r in low} == {twice.id}
    assert [r.record.text[0][0] for r in low] == [" ".join(WORDS[:40]), " ".join(WORDS[:40]), " ".join(WORDS[10:])], \
        "a rejection holds its piece, not all of the document"


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_that_was_killed_goes_on_to_the_same_end(steps):
    records = [*DOCUMENTS, DOCUMENTS[0], ask_record("Name a prime.", answer="7")]
    whole = run_all(backtranslate, given(good, records, options()))
    kept, rejected, state = run_all(backtranslate, given(good, records, options()), steps=steps)
    kept, more, state = run_all(backtranslate, given(good, records, options(), kept=kept, state=state))
    assert (kept, rejected + more, state) == whole and reasons(whole[1]) == {"duplicate_document": 1}


@pytest.mark.parametrize(("more", "said"), [
    ({"scorer": "third"}, "teacher, second"), ({"threshold": 9}, "from 1 to 5"), ({"scores": 0}, "at least 1"),
    ({"scores": 3}, "would all be the same"), ({"min_words": 2000}, "is over max_words"),
    ({"segment": "lines"}, "whole, paragraphs"), ({"filters": "exact"}, "more than one answer"),
])
def test_options_that_cannot_work(more, said):
    with pytest.raises(UserError, match=said):
        run_all(backtranslate, given(good, DOCUMENTS, options(**more)))


@pytest.mark.parametrize(("text", "score"), [
    ("Score: 4", 4.0), ("reasons\nScore: **4.5**", 4.5), ("Score: 2\nNo: Score: 3", 3.0), ("score = 5/5", 5.0),
    ("Score: 45", None), ("Score: 0", None), ("Score: 4.", 4.0), ("I give 5", None), ("", None),
])
def test_scores_are_read(text, score):
    assert backtranslate_prompts.read_score(text) == score


def test_documents_of_c4(shared):
    """300 real web pages: every one is kept or counted."""
    records = list(read_records([str(shared / "data" / "corpus" / "c4_demo.jsonl")], license="ODC-BY"))
    teacher = Replay(lambda call: f"Score: {3 + len(call.prompt[-1][1]) % 3}" if kind(call) == "score" else good(call))
    kept, rejected, state = run_all(backtranslate, given(teacher, records, options(step=100)))
    assert len(records) == 300 and state == {"at": 300} and len(kept) + len(rejected) == 300
    assert set(reasons(rejected)) == {"too_short", "too_long", "low_score"}
    texts = {record.text[0][0].strip() for record in records}
    assert kept and all(r.messages[2]["content"] in texts and r.scores["backtranslation"] == 5 for r in kept)
    asked = sum(kind(c) == "instruct" for c in teacher.asked)
    assert asked + reasons(rejected)["too_short"] + reasons(rejected)["too_long"] == 300
    cut, _, _ = run_all(backtranslate, given(good, records, options(segment="paragraphs", max_words=300, step=100)))
    sizes = [len(r.messages[2]["content"].split()) for r in cut]
    assert len(cut) > 300 and max(sizes) < 330 and min(sizes) >= 25
