"""Nothing passes or fails because of its script: the shipped config over the same texts in many languages."""

import json
from collections import Counter
from functools import lru_cache

import pytest

from jitune.construct.curate import config as options
from jitune.construct.curate import table
from jitune.construct.curate.sift import sift
from jitune.construct.reading import read_records
from jitune.data.record import Record

pytest.importorskip("lingua")
pytest.importorskip("datasketch")
MGSM = ("en", "bn", "de", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")


@lru_cache
def stages():
    return tuple(table.build(spec) for spec in options.specs(options.from_words("curate", ["--config.input=a"])))


def record(id, prompt, answer):
    return Record(str(id), ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer}))


def rates(records) -> tuple[dict[str, float], list]:
    """The share that each reason rejects, and what came out."""
    found = list(sift(records, stages()))
    counts = Counter(one.reject.reason for one in found if one.reject)
    return {reason: count / len(found) for reason, count in counts.items()}, found


@pytest.mark.parametrize("language", MGSM)
def test_problems_in_eleven_languages_all_pass(shared, language):
    """250 problems, each answered by the one before; the language is told nearly always."""
    lines = (shared / "data" / "eval_multilingual" / "mgsm" / f"mgsm_{language}.tsv").read_text().splitlines()
    texts = [line.split("\t")[0] for line in lines]
    shares, found = rates([record(i, text, texts[i - 1]) for i, text in enumerate(texts)])
    assert len(found) == 250 and shares == {}
    assert sum(one.record.meta["language"] == language for one in found) >= 245


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_paragraphs_are_rejected_for_what_is_in_the_file_alone(shared, language):
    """XQuAD's translations hold a byte order mark in six paragraphs of German and of Chinese."""
    data = json.loads((shared / "data" / "eval_multilingual" / f"xquad.{language}.json").read_text())["data"]
    paragraphs = [p for article in data for p in article["paragraphs"]]
    _, found = rates([record(i, p["qas"][0]["question"], p["context"]) for i, p in enumerate(paragraphs)])
    marked = [str(i) for i, p in enumerate(paragraphs) if "\ufeff" in p["context"] + p["qas"][0]["question"]]
    assert [(one.record.id, one.reject.reason) for one in found if one.reject] == [
        (id, "byte_order_mark") for id in marked]
    assert len(marked) == (0 if language == "en" else 6)


def test_short_answers_in_three_languages(shared):
    """TruthfulQA's best answers. A few that say what is forbidden or cannot be are taken for refusals, in each."""
    shares = {}
    for language in ("en", "es", "eu"):
        rows = json.loads((shared / "data" / "eval_multilingual" / f"truthfulqa_multi_{language}.json").read_text())
        shares[language], _ = rates([record(row["id"], row["question"], row["mc1_targets"]["choices"][0])
                                     for row in rows])
    assert all(set(found) <= {"refusal", "near_duplicate"} for found in shares.values()), shares
    assert all(share < 0.01 for found in shares.values() for share in found.values()), shares


def test_chinese_alpaca_is_judged_as_english_alpaca(shared):
    """Two samples of one set, answered by two models. The Chinese one declines more often (20 of 1,000 to 5 of 999: it
    was asked about passages that are not there), and ends with good wishes (9 to 0); nothing else differs by 1 %."""
    shares = {}
    for language in ("en", "zh"):
        file = shared / "data" / "sft" / f"alpaca_{language}_demo.json"
        shares[language], found = rates(read_records([str(file)]))
        told = Counter(one.record.meta.get("language") for one in found if one.reject is None)
        assert told[language] > 0.95 * told.total()
    english, chinese = shares["en"], shares["zh"]
    apart = {reason: chinese.get(reason, 0) - english.get(reason, 0) for reason in {*english, *chinese}}
    assert 0.01 < apart.pop("refusal") < 0.02, shares
    assert all(abs(difference) < 0.01 for difference in apart.values()), apart
    assert 0.03 < sum(english.values()) < 0.07 and 0.03 < sum(chinese.values()) < 0.07
