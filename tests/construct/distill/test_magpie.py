"""Magpie: what stands around a user's text, sampling from it, grades, duplicates, and teachers that do badly."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from jitune.construct.distill import magpie, magpie_prompts
from jitune.construct.distill.pre_query import pieces
from jitune.data.chat import load_template
from jitune.generators.call import Lost, Reply
from jitune.generators.replay import Replay
from jitune.types import UserError
from tests.construct.distill.teachers import ask_record, given, reasons, run_all
from tests.data.toy import make_tokenizer

# Of the shapes that are met: headers with a BOS and trimmed texts; a system turn that is always there; the system's
# text within the user's turn.
LLAMA = ("{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
         "{{ m.content | trim }}<|eot_id|>{% endfor %}"
         "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}")
QWEN = ("{% if messages[0].role != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
GEMMA = ("{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
         "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
         "{% for m in rest %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
         "{{ (first if loop.first else '') + m.content | trim }}<end_of_turn>\n{% endfor %}"
         "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}")
ONE_TURN = ("{% if messages | length > 1 %}{{ raise_exception('one message') }}{% endif %}"
            "Question: {{ messages[0].content }}\nAnswer:")


def tokenizer(template, **more):
    return make_tokenizer(chat_template=template, **more)


def test_chatml():
    found = pieces(tokenizer(load_template("chatml")))
    assert found.before == "<|im_start|>user\n"
    assert found.after == "<|im_end|>\n<|im_start|>assistant\n"
    assert found.between == "<|im_end|>\n<|im_start|>user\n"
    assert found.stops == ("<|im_end|>", "<|im_start|>", "<|endoftext|>")


def test_llama_3_and_its_bos():
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    bos = "<|begin_of_text|>"
    by_template = pieces(tokenizer(LLAMA, bos=bos))
    assert by_template.before == bos + header.format("user")
    assert by_template.after == "<|eot_id|>" + header.format("assistant")
    assert by_template.between == "<|eot_id|>" + header.format("user")
    assert by_template.stops[:2] == ("<|eot_id|>", "<|start_header_id|>")
    # A tokenizer that puts it in front of plain texts itself would make it two.
    assert pieces(tokenizer(LLAMA, bos=bos, add_bos=True)).before == header.format("user")


def test_alpaca_has_no_control_tokens():
    found = pieces(tokenizer(load_template("alpaca")))
    assert found.before == "### Instruction:\n" and found.after == "\n\n### Response:\n"
    assert found.between == "<|endoftext|>\n\n### Instruction:\n"
    assert found.stops == ("\n\n### Response:", "<|endoftext|>")


def test_system_messages_of_the_template_and_of_ones_own():
    assert pieces(tokenizer(QWEN)).before == ("<|im_start|>system\nBe helpful.<|im_end|>\n<|im_start|>user\n")
    assert pieces(tokenizer(QWEN), system="Be brief.").before == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    gemma = pieces(tokenizer(GEMMA, bos="<bos>"), system="Be brief.")
    assert gemma.before == "<bos><start_of_turn>user\nBe brief.\n\n"
    assert gemma.stops[:2] == ("<end_of_turn>", "<start_of_turn>")


@pytest.mark.parametrize("template", [load_template("chatml"), load_template("alpaca"), LLAMA, QWEN, GEMMA])
def test_pieces_put_together_are_what_the_template_writes(template):
    bos = "<bos>" if template is GEMMA else "<|begin_of_text|>" if template is LLAMA else None
    words = tokenizer(template, bos=bos)
    found = pieces(words)
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."},
                {"role": "user", "content": "Really?"}]
    wanted = words.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert found.conversation([("Why?", "So.")]) + "Really?" + found.after == wanted


def test_templates_that_will_not_do():
    one = pieces(tokenizer(ONE_TURN))
    assert (one.before, one.after, one.between) == ("Question: ", "\nAnswer:", None)
    with pytest.raises(UserError, match="has no chat template"):
        pieces(tokenizer(None))
    with pytest.raises(UserError, match="fails on a system message and a question: one message"):
        pieces(tokenizer(ONE_TURN), system="Be brief.")
    with pytest.raises(UserError, match="does not write a question once"):
        pieces(tokenizer("{{ messages[0].content | upper }}"))
    with pytest.raises(UserError, match="no place for a system message"):
        pieces(tokenizer("{% for m in messages if m.role == 'user' %}{{ m.content }}!{% endfor %}"), system="Be brief.")


# Sampling.

TEXTS = {"pre_query": "<|user|>\n", "post_query": "<|end|>\n<|assistant|>\n", "between": "<|end|>\n<|user|>\n",
         "stops": "<|end|>|||<|user|>"}


def options(**more):
    return magpie.defaults() | TEXTS | {"count": 6, "step": 2} | more


def kind(call) -> str:
    text = call.prompt if isinstance(call.prompt, str) else call.prompt[-1][1]
    return ("judge" if "Quality: " in text else "question" if text.endswith("<|user|>\n") else "answer")


def good(call):
    if kind(call) == "question":
        return f" What is the {call.seed + 1}th letter, and which words begin with number {call.seed}? "
    return "It is clear.\nQuality: good" if kind(call) == "judge" else f"An answer of {len(call.prompt)}."


def but(part, reply):
    return lambda call: reply if kind(call) == part else good(call)


def test_questions_are_sampled_and_answered():
    teacher = Replay(good)
    kept, rejected, state = run_all(magpie, given(teacher, [], options(duplicates="exact")))
    assert rejected == [] and len(kept) == 6 and state == {"at": 6}
    question, judge, answer = (next(c for c in teacher.asked if kind(c) == k) for k in ("question", "judge", "answer"))
    assert question.prompt == "<|user|>\n" and (question.temperature, question.top_p) == (1.0, 1.0)
    assert question.stop == ("<|end|>", "<|user|>", "\n") and question.max_tokens == 512
    text = "What is the 1th letter, and which words begin with number 0?"
    assert answer.prompt == f"<|user|>\n{text}<|end|>\n<|assistant|>\n"
    assert answer.temperature == 0.0 and answer.max_tokens == 2048 and answer.stop == ("<|end|>", "<|user|>")
    whole = Replay(good)
    run_all(magpie, given(whole, [], options(one_line=False)))
    assert whole.asked[0].stop == ("<|end|>", "<|user|>")
    assert judge.prompt.startswith("<|user|>\nYou grade") and judge.prompt.endswith("<|end|>\n<|assistant|>\n")
    assert kept[0].messages[0] == {"role": "user", "content": text}
    assert kept[0].provenance.method == "magpie" and kept[0].provenance.source == "sample 0"
    other = Replay(good)
    run_all(magpie, given(other, [], options(), seed=1))
    assert not {c.seed for c in teacher.asked if kind(c) == "question"} & {
        c.seed for c in other.asked if kind(c) == "question"}


def test_a_chat_api_is_refused_with_the_reason():
    teacher = Replay(good)
    teacher.raw = False
    with pytest.raises(UserError, match="continues plain texts.*greetings come back"):
        run_all(magpie, given(teacher, [], options()))
    assert teacher.asked == []


@pytest.mark.parametrize(("part", "reply", "reason"), [
    ("question", Reply("What is", "length"), "cut"), ("question", "  \n", "empty_answer"),
    ("question", "Please translate this text:", "ends_with_colon"), ("question", "请翻译：", "ends_with_colon"),
    ("question", "Why?<|end|>", "control_tokens"), ("question", "what and what and why " * 30, "loop"),
    ("question", "I'm sorry, but I can't help with that.", "refusal"), ("question", Lost("failed"), "failed"),
    ("judge", "Quality: average", "low_quality"), ("judge", "very poor", "low_quality"),
    ("judge", "What a nice question!", "unrated"), ("judge", "", "unrated"), ("judge", Lost("filtered"), "filtered"),
    ("answer", "", "empty_answer"), ("answer", Reply("It is", "length"), "cut"),
    ("answer", "so it is and so it was " * 30, "loop"), ("answer", Lost("too_long"), "too_long"),
    ("answer", "I'm sorry, but I can't help with that.", "refusal"),
])
def test_bad_teachers_are_counted_rejections(part, reply, reason):
    kept, rejected, _ = run_all(magpie, given(but(part, reply), [], options()))
    assert kept == [] and reasons(rejected) == {reason: 6}
    assert [one.source for one in rejected] == [f"sample {n}" for n in range(6)]


def test_one_of_a_group_of_near_duplicates_is_kept():
    words = [a + b for a in "north south east west hill river".split() for b in
             "gate side port town way land wood ford well mill".split()]
    said = [" ".join(words), " ".join([*words[:-1], "other"]), " ".join(reversed(words)), "Short question here?",
            "SHORT question  here?", " ".join(words)]
    teacher = Replay(lambda call: said[call.seed] if kind(call) == "question" else good(call))
    kept, rejected, _ = run_all(magpie, given(teacher, [], options()))
    assert [r.meta["magpie"]["sample"] for r in kept] == [0, 2, 3] and reasons(rejected) == {"near_duplicate": 3}
    kept, rejected, _ = run_all(magpie, given(teacher, [], options(duplicates="exact")))
    assert [r.meta["magpie"]["sample"] for r in kept] == [0, 1, 2, 3] and reasons(rejected) == {"duplicate": 2}
    kept, rejected, _ = run_all(magpie, given(teacher, [], options(duplicates="none")))
    assert len(kept) == 6 and rejected == []


def test_another_model_grades():
    judge = Replay(lambda call: "Quality: excellent" if "number 3" in call.prompt[0][1] else "Quality: poor")
    kept, rejected, _ = run_all(magpie, given(good, [], options(rater="second"), second=judge))
    assert [r.meta["magpie"]["sample"] for r in kept] == [3] and reasons(rejected) == {"low_quality": 5}
    with pytest.raises(UserError, match=r"second\.model is not set"):
        run_all(magpie, given(good, [], options(rater="second")))
    kept, *_ = run_all(magpie, given(but("judge", Lost("failed")), [], options(qualities="", duplicates="none")))
    assert len(kept) == 6  # nobody is asked


def test_more_turns_and_one_that_fails_later():
    def second_fails(call):
        if kind(call) == "question" and "An answer" in call.prompt and call.seed % 2:
            return "Then do this:"
        return good(call)

    teacher = Replay(second_fails)
    kept, rejected, _ = run_all(magpie, given(teacher, [], options(turns=2, duplicates="exact")))
    assert [len(r.messages) for r in kept] == [4, 2, 4, 2, 4, 2] and rejected == []
    assert [m["role"] for m in kept[0].messages] == ["user", "assistant"] * 2
    again = next(c for c in teacher.asked if kind(c) == "question" and "An answer" in c.prompt)
    first = [m["content"] for m in kept[0].messages]
    assert again.prompt == f"<|user|>\n{first[0]}<|end|>\n<|assistant|>\n{first[1]}<|end|>\n<|user|>\n"


def test_a_local_teachers_own_template_and_system_messages():
    teacher = Replay(lambda call: f"What of {call.seed}, and of {len(call.prompt)}?" if call.prompt.endswith("user\n")
                     else "Quality: good" if "You grade" in call.prompt else "So it is.")
    teacher.source = SimpleNamespace(tokenizer=tokenizer(QWEN), chat_template=None)  # as `generators.cached` has it
    systems = [ask_record("-", i, system=text) for i, text in enumerate(["You teach.", "You cook well."])]
    more = magpie.defaults() | {"count": 4, "duplicates": "none"}
    kept, rejected, _ = run_all(magpie, given(teacher, systems, more))
    assert rejected == [] and [r.messages[0]["content"] for r in kept] == ["You teach.", "You cook well."] * 2
    assert teacher.asked[0].prompt == "<|im_start|>system\nYou teach.<|im_end|>\n<|im_start|>user\n"
    other = more | {"chat_template": "alpaca"}
    teacher.asked.clear()
    run_all(magpie, given(teacher, [], other))
    assert teacher.asked[0].prompt == "### Instruction:\n" and teacher.asked[0].stop[0] == "\n\n### Response:"
    with pytest.raises(UserError, match="not known of this teacher; name a folder"):
        run_all(magpie, given(good, [], more))


def test_the_template_of_a_folder_for_an_endpoint(tmp_path):
    tokenizer(LLAMA, bos="<|begin_of_text|>").save_pretrained(tmp_path)
    teacher = Replay(good)
    more = magpie.defaults() | {"count": 1, "tokenizer": str(tmp_path)}
    run_all(magpie, given(teacher, [], more))
    assert teacher.asked[0].prompt == "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
    assert [name for name in magpie.reads(more) if name and Path(name).exists()]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_that_was_killed_goes_on_to_the_same_end(steps):
    said = ["One question?", "Another question?", "one QUESTION?", "Third question:", "another question?", "Last one?"]
    teacher = Replay(lambda call: said[call.seed] if kind(call) == "question" else good(call))
    whole = run_all(magpie, given(teacher, [], options()))
    kept, rejected, state = run_all(magpie, given(teacher, [], options()), steps=steps)
    kept, more, state = run_all(magpie, given(teacher, [], options(), kept=kept, state=state))
    assert (kept, rejected + more, state) == whole and reasons(whole[1]) == {"near_duplicate": 2, "ends_with_colon": 1}


@pytest.mark.parametrize(("more", "said"), [
    ({"qualities": "good,great"}, "very poor, poor, average"), ({"count": 0}, "count=0"), ({"rater": "me"}, "second"),
    ({"post_query": ""}, "without post_query"), ({"stops": ""}, "without post_query and stops"),
    ({"turns": 2, "between": ""}, "need between"), ({"duplicates": "fuzzy"}, "minhash, exact, none"),
    ({"pre_query": "", "tokenizer": "nowhere"}, "there is no tokenizer"),
])
def test_options_that_cannot_work(more, said):
    with pytest.raises(UserError, match=said):
        run_all(magpie, given(good, [], options(**more)))


@pytest.mark.parametrize(("text", "grade"), [
    ("Quality: good", "good"), ("It is poor. **Quality:** very poor", "very poor"), ("Excellent.", "excellent"),
    ('{"quality": "average"}', "average"), ("Quality: good, or quality: poor", "poor"), ("it is good", None),
    ("", None),
])
def test_grades_are_read(text, grade):
    assert magpie_prompts.read_quality(text) == grade
