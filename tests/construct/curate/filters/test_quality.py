"""Refusals, hallucinated inputs, repetition, artifacts, length and language, on real data and by hand."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from jitune.construct.curate.filters import (
    artifacts,
    boilerplate,
    empty,
    encoding,
    hallucinated_input,
    language,
    length,
    refusal,
    repetition,
)
from jitune.construct.curate.stage import Keep, Reject
from jitune.construct.readers import training
from jitune.data.formats import to_example
from jitune.data.record import Record, from_example

CHEAP = (empty, length, encoding, artifacts, repetition, refusal, boilerplate, hallucinated_input)


def record(answer, prompt="Say it."):
    return Record("id", ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer}))


def reason(filter, answer, prompt="Say it."):
    verdict = filter.judge(record(answer, prompt))
    return verdict.reason if isinstance(verdict, Reject) else None


def read(path, limit=None):
    text = path.read_text()
    rows = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    rows = [{"prompt": row["prompt"], "response": row["response"]} if "response" in row else row for row in rows]
    return [from_example(to_example(row, (path.name, n))) for n, row in enumerate(rows[:limit], 1)]


def reasons(records, filters=CHEAP):
    built, found = [module.build() for module in filters], Counter()
    for one in records:
        verdicts = (filter.judge(one) for filter in built)
        found[next((v.reason for v in verdicts if isinstance(v, Reject)), "kept")] += 1
    return found


def test_raw_continuations_are_rejected_and_tuned_answers_are_not(shared):
    """davinci goes on to its last token; the same model, tuned, answers most of the same prompts well."""
    raw = reasons(read(shared / "data/self_improvement/davinci_predictions.jsonl"))
    assert raw["kept"] <= 5 and raw["goes_on"] > 150 and raw["loop"] > 40
    tuned = reasons(read(shared / "data/self_improvement/davinci_self_instruct_predictions.jsonl"))
    assert tuned["kept"] >= 225 and tuned["goes_on"] == 0


def test_chinese_and_english_answers_of_one_set_fare_alike(shared):
    """GPT-4's answers to Alpaca in both languages. Chinese ones do refuse more: 20 of 20 were read and refuse."""
    found = {code: reasons(read(shared / f"data/sft/alpaca_{code}_demo.json")) for code in ("en", "zh")}
    for name in set(found["en"]) | set(found["zh"]):
        most = {"refusal": 20, "closing": 12, "kept": 30}.get(name, 8)
        assert abs(found["en"][name] - found["zh"][name]) <= most, (name, found)
    assert min(found[code]["kept"] for code in found) > 920


@pytest.mark.parametrize("code", ("en", "de", "zh"))
def test_passages_in_three_languages_pass(shared, code):
    data = json.loads((shared / f"data/eval_multilingual/xquad.{code}.json").read_text())["data"]
    passages = [record(p["context"], p["qas"][0]["question"]) for article in data for p in article["paragraphs"]]
    found = reasons(passages)
    # The German and Chinese files do have byte order marks in front of six passages each.
    marks = {"en": 0, "de": 6, "zh": 6}[code]
    assert found == Counter({"kept": len(passages) - marks, "byte_order_mark": marks})


def test_code_passes(shared):
    assert reasons(read(shared / "data/sft/code_alpaca_2k.json", 1000))["kept"] >= 985


def test_placeholders_of_an_identity_are_seen(shared):
    records = read(shared / "data/sft/identity.json")
    found = [artifacts.build().judge(one) for one in records]
    assert len(records) == 91
    for verdict, one in zip(found, records, strict=True):
        assert isinstance(verdict, Reject) == ("{{" in one.messages[-1]["content"])


def test_hallucinated_inputs_by_language():
    filter = hallucinated_input.build()
    missing = ("Summarize the following article.", "总结以下文章。", "Resume el siguiente artículo.",
               "Résume l'article suivant.",
               "Fasse den folgenden Artikel zusammen.", "Кратко изложи следующую статью.",
               "以下の記事を要約してください。",
               "다음 기사를 요약하세요.", "لخص المقال التالي", "निम्नलिखित लेख का सारांश दें।", "Tóm tắt bài báo sau.",
               "Ringkas artikel berikut.", "Riassumi il seguente articolo.", "Resuma o artigo abaixo.")
    for prompt in missing:
        assert reason(filter, "It is about cats.", prompt) == "missing_text", prompt
        text = f"{prompt}\n\nCats sleep for most of the day, and hunt at night."
        assert reason(filter, "It is about cats.", text) is None, text
    assert reason(filter, "A cat.", "Describe the attached photo.") == "missing_media"
    assert reason(filter, "A cat.", "描述下面的图片。") == "missing_media"
    assert reason(filter, "A cat.", "Summarize the page.\n\nhttps://news.org/cats") == "url_only_input"
    assert reason(filter, "news.org", "Write code that takes the domain.\n\nhttps://news.org/cats") is None


def test_presets_of_papers():
    filter = hallucinated_input.build(preset="self_instruct")
    cases = {"Draw a cat for me": "keyword", "Open the file and go": "keyword",
    "Write a program to sort": "write_a_program",
             "- list cats": "leading_punctuation", "Drawing is what?": None, "画一只猫": None, "Play some music": None}
    assert {prompt: reason(filter, "Well.", prompt) for prompt in cases} == cases
    assert reason(hallucinated_input.build(preset="alpaca"), "Well.", "Play some music") == "keyword"
    assert reason(hallucinated_input.build(english_only=True), "Well.", "画一只猫") == "not_english"
    short = length.build(preset="self_instruct")
    assert reason(short, "Well.", "Name three cats") == "prompt_too_short"  # 3 words; the paper's code keeps 4 to 150
    assert reason(short, "Well.", "Name three big cats") is None
    assert reason(short, "Well.", "cat " * 150) is None and reason(short, "Well.", "cat " * 151) == "prompt_too_long"


def test_gophers_figures_by_hand():
    lines = ["alpha beta gamma", "delta epsilon zeta", "eta theta iota", "alpha beta gamma"]
    # 16 of the 65 characters stand in a line that came before: 0.25, over 0.20.
    assert repetition.lines("\n".join(lines)).detail == "0.25 of the characters, at most 0.20"
    assert repetition.lines("\n".join(lines), 2.0) is None
    assert repetition.loop("a " + "one two " * 20) == (" one two", 20)
    assert repetition.loop("nothing here comes again and again, or at least not at the end of this text.") is None
    assert reason(repetition.build(), "x " * 10 + "item_" + "\nitem_".join(map(str, range(60)))) == "loop"
    assert repetition.compressed("ab" * 500) < 0.05
    assert repetition.compressed("The quick brown fox jumps over a dog.") > 0.3


def test_artifacts_by_hand():
    filter = artifacts.build()
    assert reason(filter, "4[/INST]") == reason(filter, "4\n### Instruction:\nAdd") == "template_marker"
    assert reason(filter, "Use [INST] around it.", "Where does [INST] go?") is None
    assert reason(filter, "4\nHuman: And 3?\nAssistant: 9") == "goes_on"
    assert reason(filter, "Human: Hi\nRobot: Hi", "Write a dialogue of two.") is None
    assert reason(filter, "````\n```\na\n```\n````") is None and reason(filter, "````\n```\na\n```") == "open_fence"
    assert reason(filter, "Dear {{name}}", "Write a template for letters.") is None
    assert reason(filter, r"\frac{{a}}{{b}} and `{{name}}`") is None
    cut = artifacts.build(checks="cut_off")
    assert reason(cut, "It is blue, green,") == "cut_off" and reason(cut, "它是蓝色的，") == "cut_off"
    assert reason(cut, "It is blue.") is None and reason(cut, "- blue\n- green") is None and reason(cut, "Blue") is None


def test_refusals_and_boilerplate():
    assert reason(refusal.build(), "I'm sorry, but I can't help with that.") == "refusal"
    assert reason(refusal.build(languages="en"), "抱歉，我无法提供这方面的帮助。") is None
    assert reason(refusal.build(), "I couldn't help but notice the heavy traffic.") is None
    assert reason(refusal.build(), "Theft is illegal in every state.") is None
    plain = boilerplate.build()
    assert reason(plain, "As an AI language model, I like both.") == "ai_self_reference"
    assert reason(plain, "作为一个人工智能，两个都好。") == "ai_self_reference"
    assert reason(plain, "Take tea. I hope this helps!") == "closing"
    assert reason(plain, "Sure! Here is a poem: ...") is None
    assert reason(boilerplate.build(checks="opening"), "Sure! Here is a poem: ...") == "opening"
    assert reason(plain, "I hope this helps.\n\nBest regards,\nAnn") is None


def test_languages_are_noted_and_chosen():
    french = "Le ciel est bleu parce que l'air diffuse davantage la lumière bleue que la lumière rouge."
    english = "The sky is blue because the air scatters blue light more than red light."
    question = "Why is the sky blue when the sun is shining?"
    noted = language.build().judge(record(french, "Pourquoi ?"))
    assert noted.record.meta == {"language": "fr"}
    assert language.build().judge(record("42", "?")).record.meta == {"language": "und"}
    chosen = language.build(languages="en,zh")
    assert reason(chosen, french, "Pourquoi le ciel est-il bleu pendant la journée ?") == "wrong_language"
    assert reason(chosen, english, question) is None and reason(chosen, "42", "?") is None
    assert reason(chosen, french, f"Translate into French, please: {english}") is None
    strict = language.build(mismatch=True)
    assert reason(strict, french, question) == "language_mismatch"
    assert reason(strict, french, f"Translate this into French: {english}") is None
    code = "Voici le programme que tu m'as demandé :\n```python\nfor the_word in the_sentence: print(the_word)\n```"
    assert isinstance(chosen.judge(record(code, "Écris un programme qui affiche les mots.")), Reject)


def test_the_input_of_alpaca_is_told_from_an_instruction_of_two_paragraphs():
    """Without `meta` the first blank line is taken for the end of the instruction."""
    row = {"instruction": "Correct this.\n\nKeep the tone.", "input": "He go home.", "output": "He go home."}
    (record,) = training.read(row, ("a.json", 1), Counter(), {})
    assert record.meta == {"input": "He go home."}
    assert empty.build().judge(record).reason == "echo"
    assert isinstance(empty.build().judge(replace(record, meta={})), Keep)
    (link,) = training.read({**row, "input": "https://x.org/a", "output": "Done."}, ("a.json", 1), Counter(), {})
    assert hallucinated_input.build().judge(link).reason == "url_only_input"
