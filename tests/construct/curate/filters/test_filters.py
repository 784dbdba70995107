"""Every filter through the same checks: pure, told by name, never raising, fair to every script, quick on 1 MB."""

import copy
import importlib
import json
import pickle
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.curate.stage import Filter, Keep, Reject
from jitune.data.record import Annotation, Candidate, Provenance, Record
from jitune.types import UserError

HERE = "jitune.construct.curate.filters"
# Each filter as it is by default, and with everything on that can reject more.
TABLE = {
    "empty": [{}, {"echo": False, "not_available": False}],
    "length": [{}, {"preset": "self_instruct"}, {"min_answer_words": 2, "max_answer_characters": 50, "max_turns": 2}],
    "encoding": [{}, {"checks": "html,mixed_scripts"}],
    "artifacts": [{}, {"checks": "cut_off,placeholder"}],
    "repetition": [{}, {"slack": 1.0, "min_words": 1}],
    "refusal": [{}, {"partial_too": True}],
    "boilerplate": [{}, {"checks": "opening,offer,closing"}],
    "hallucinated_input": [{}, {"preset": "alpaca", "english_only": True}],
    "language": [{}, {"languages": "en,zh", "mismatch": True}],
    "pii": [{}, {"action": "reject"}],
}
CASES = [(name, options) for name, several in TABLE.items() for options in several]


def build(name, **options) -> Filter:
    return importlib.import_module(f"{HERE}.{name}").build(**options)


def record(prompt="Say it.", answer="It is said.", **changes) -> Record:
    messages = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
    return replace(Record("id", messages), **changes)


# Any valid Unicode, and what filters look for.
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60) | st.sampled_from((
    "", " ", "N/A", "{{x}}", "```\na", "Ã©", "\ufffd", "????? ??", "<br>", "ann@acme.io", "+49 30 901820", "<|im_end|>",
    "As an AI,", "the following image", "https://a.b/c", "go " * 80, "好" * 200, "1" * 40, "[INST]", "I can't help."))
CALLS = [{"type": "function", "function": {"name": "f", "arguments": {"to": "a@acme.io"}}}]
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(("system", "user", "assistant", "tool")), "content": TEXT},
                                optional={"reasoning_content": TEXT, "tool_calls": st.just(CALLS)})
MESSAGES = st.lists(MESSAGE, max_size=4).map(tuple)
CONVERSATION = st.builds(
    lambda messages, chosen, rejected, others, label, meta: Record(
        "id", messages, chosen=chosen, rejected=rejected, candidates=tuple(Candidate((m,)) for m in others),
        label=label, meta={"note": meta}, annotations=(Annotation("ann", "q", meta),),
        provenance=Provenance("a.jsonl:1")),
    MESSAGES, MESSAGES, MESSAGES, MESSAGES, st.sampled_from((None, True, False)), TEXT)
RAW = st.builds(lambda first, second: Record("id", text=((first, 0.0), (second, 1.0))), TEXT, TEXT) | \
    st.builds(lambda only: Record("id", text=((only, 1.0),)), TEXT)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@settings(max_examples=40, deadline=None)
@given(given_record=CONVERSATION | RAW)
def test_a_filter_is_pure_and_always_answers(name, options, given_record):
    filter, before = build(name, **options), copy.deepcopy(given_record)
    verdict = filter.judge(given_record)
    assert given_record == before
    assert filter.judge(given_record) == verdict
    if isinstance(verdict, Reject):
        assert re.fullmatch("[a-z][a-z0-9_]*", verdict.reason) and verdict.detail
        assert len(verdict.detail) < 300
    else:
        assert isinstance(verdict, Keep) and isinstance(verdict.record, Record)
        if name not in ("language", "pii"):
            assert verdict.record == given_record


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_filter_is_told_by_its_name(name, options):
    filter = build(name, **options)
    again = pickle.loads(pickle.dumps(filter))
    assert again.name == name
    for one in (record(), record(answer=""), record(answer="ann@acme.io")):
        assert again.judge(one) == filter.judge(one)


BAD_OPTIONS = [
    ("length", {"preset": "alpacca"}, "self_instruct"),
    ("length", {"min_words": 3}, "min_prompt_words"),
    ("length", {"min_turns": -1}, "min_turns is -1"),
    ("length", {"min_answer_words": 9, "max_answer_words": 3}, "above max_answer_words"),
    ("encoding", {"checks": "mojibake, htm"}, "'htm'"),
    ("artifacts", {"checks": "fences"}, "open_fence"),
    ("repetition", {"min_compressed": 2}, "from 0 to 1"),
    ("refusal", {"languages": "en,xx"}, "'xx'"),
    ("boilerplate", {"checks": "hello"}, "closing"),
    ("hallucinated_input", {"preset": "dolly"}, "alpaca"),
    ("language", {"languages": "english"}, "'english'"),
    ("language", {"min_confidence": 50}, "from 0 to 1"),
    ("language", {"candidates": "en"}, "at least two"),
    ("pii", {"kinds": "e-mail"}, "email"),
    ("pii", {"action": "drop"}, "redact, reject"),
]


@pytest.mark.parametrize(("name", "options", "told"), BAD_OPTIONS, ids=str)
def test_wrong_options_are_told(name, options, told):
    with pytest.raises(UserError, match=re.escape(told)) as error:
        build(name, **options)
    assert "\n" not in str(error.value)


# One conversation in many scripts: what passes in one passes in all.
SAME = json.loads((Path(__file__).parent / "one_answer_in_many_scripts.json").read_text())


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("language", SAME)
def test_no_script_is_rejected_for_itself(name, language):
    prompt, answer = SAME[language]
    verdict = build(name).judge(record(prompt, answer))
    assert isinstance(verdict, Keep), verdict
    everything = {"length": {"preset": "self_instruct"}, "artifacts": {"checks": "cut_off"},
                  "refusal": {"partial_too": True}, "hallucinated_input": {"preset": "alpaca"},
                  "repetition": {"slack": 1.0, "min_words": 1}}
    verdict = build(name, **everything.get(name, {})).judge(record(prompt, answer))
    assert isinstance(verdict, Keep), verdict


def bad(language):
    """What is wrong in any script, by its filter: the same reason in each."""
    prompt, answer = SAME[language]
    return {
        "empty": [("echo", prompt, prompt), ("empty_answer", prompt, " \n"), ("empty_prompt", "", answer),
                  ("only_punctuation", prompt, "…。?!")],
        "length": [("too_long", prompt, answer * 20_000), ("answer_too_short", prompt, answer[:2])],
        "encoding": [("replacement_character", prompt, answer[:9] + "\ufffd" + answer[9:]),
                     ("control_character", prompt, answer + "\x08"), ("byte_order_mark", prompt, "\ufeff" + answer),
                     ("private_use", prompt, answer + "\ue000"), ("unassigned", prompt, answer + "\uffff"),
                     ("html", prompt, f"<p>{answer}</p>"[3:]), ("invisible_characters", prompt, answer + "\u200b" * 9)],
        "artifacts": [("template_marker", prompt, answer + "<|im_end|>"), ("open_fence", prompt, answer + "\n```\n1"),
                      ("placeholder", prompt, answer + " {{name}}"),
                      ("goes_on", f"{prompt}\n{prompt.split()[0][:5]}:",
                      f"{answer}\n{prompt.split()[0][:5]}: {answer}")],
        "repetition": [("loop", prompt, answer * 8), ("loop", prompt, answer + f"\n{prompt} " * 10)],
        "hallucinated_input": [("url_only_input", f"{prompt}\n\nhttps://acme.org/a", answer),
                               ("media_tag", f"<image>\n{prompt}", answer)],
    }


@pytest.mark.parametrize("language", SAME)
def test_what_is_wrong_is_wrong_in_every_script(language):
    options = {"length": {"min_answer_words": 3}}
    for name, cases in bad(language).items():
        for reason, prompt, answer in cases:
            verdict = build(name, **options.get(name, {})).judge(record(prompt, answer))
            assert isinstance(verdict, Reject) and verdict.reason == reason, (name, reason, verdict)


MEGABYTE = 1_000_000
BIG = ("a", "!", " ", "\n", "猫", "<p ", "`a\n", "```\n", "{{a ", "a@", "@a.", "1 ", "1-", "+1 ", "AB12 ", "?? ", "é»",
       "\u200b", "pа", "http://", "“a ", "eyJaaaaaaaaaaa.", "tel 1", "![", "I cannot ")


@pytest.mark.parametrize("name", TABLE)
def test_a_megabyte_is_judged_quickly(name):
    look = {"length": {"max_characters": 0, "max_answer_words": 10**9, "min_prompt_words": 1}}
    filter = build(name, **look.get(name, {}))
    filter.judge(record())
    for piece in BIG:
        text = piece * (MEGABYTE if len(piece) == 1 else MEGABYTE // 5 // len(piece))
        start = time.process_time()
        filter.judge(record(text, "It is said."))
        filter.judge(record("Say it.", text))
        # Linear ones need 0.02 s to 0.2 s; a quadratic one minutes.
        assert time.process_time() - start < 5, repr(piece)


def test_unwanted_answers_need_not_be_good():
    bad_answer = ({"role": "assistant", "content": "N/A"},)
    question = ({"role": "user", "content": "Why is the sky blue?"},)
    good = ({"role": "assistant", "content": "Air scatters blue light more."},)
    kept = (Record("a", question, chosen=good, rejected=bad_answer), Record("b", question + bad_answer, label=False),
            Record("c", question + bad_answer + question + good, message_weights=(None, 0.0, None, 1.0)),
            Record("d", question, candidates=(Candidate(good, 0), Candidate(bad_answer, 1))))
    empty = build("empty")
    assert all(isinstance(empty.judge(one), Keep) for one in kept)
    assert empty.judge(Record("e", question, chosen=bad_answer, rejected=good)).reason == "not_available"
    assert empty.judge(Record("f", question + bad_answer, label=True)).reason == "not_available"
