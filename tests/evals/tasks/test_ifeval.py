"""IFEval as a task: its rows, its readings, its metrics, and the published figures of GPT-4's answers."""

import json

import pytest

from jitune.evals.task import Generate, Generated
from jitune.evals.tasks import ifeval
from jitune.types import UserError

ROWS = [
    {"key": 1, "prompt": "No commas, and in quotes.", "kwargs": [{}, {"num_words": None}],
     "instruction_id_list": ["punctuation:no_comma", "startend:quotation"]},
    {"key": 1, "prompt": "Sin comas.", "instruction_id_list": ["es:punctuation:no_comma"], "kwargs": [{}]},
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def answer(text):
    return (Generated(text, "stop", 1),)


def metrics(documents, outcomes):
    found = {}
    for metric in ifeval.TASK.metrics:
        mean = sum(o.scores[metric.name] for o in outcomes) / len(outcomes)
        found[metric.name] = metric.corpus(documents, outcomes) if metric.corpus else mean
    return found


def test_documents(tmp_path):
    first, second = ifeval.TASK.load([write(tmp_path / "m_ifeval_x.jsonl", ROWS)])
    assert (first.id, second.id) == ("en-1", "es-1")
    assert first.tags == {"language": "en", "group": "several", "instructions": "2"}
    assert second.tags == {"language": "es", "group": "punctuation", "instructions": "1"}
    assert first.requests == (Generate((("user", ROWS[0]["prompt"]),), max_new_tokens=1280),)
    assert first.row["arguments"] == [{}, {}]


@pytest.mark.parametrize("change, message", [
    ({"instruction_id_list": ["punctuation:no_coma"]}, "no instruction 'punctuation:no_coma'; the nearest are punctu"),
    ({"instruction_id_list": ["keywords:existence"]}, "it lacks keywords"),
    ({"kwargs": [{}, {}]}, "has 1 instructions and 2 kwargs"),
    ({"kwargs": [3]}, "a text with an object"),
    ({"prompt": ""}, "prompt is empty"),
    ({"instruction_id_list": []}, "instruction_id_list is empty"),
    ({"key": None}, "has no field 'key'"),
])
def test_rows_that_are_refused_are_named(tmp_path, change, message):
    path = write(tmp_path / "rows.jsonl", [ROWS[0], {**ROWS[1], **change}])
    with pytest.raises(UserError) as error:
        ifeval.TASK.load([path])
    assert str(error.value).startswith(f"{path}:2: ") and message in str(error.value)


def test_the_same_key_twice(tmp_path):
    path = write(tmp_path / "rows.jsonl", [ROWS[0], ROWS[0]])
    with pytest.raises(UserError, match=r"rows.jsonl:2: key 1 was at .*rows.jsonl:1 already"):
        ifeval.TASK.load([path])


def test_the_eight_readings():
    assert ifeval.variants("*a*\nb\nc*") == [
        "*a*\nb\nc*", "b\nc*", "*a*\nb", "b", "a\nb\nc", "b\nc", "a\nb", "b"]


def test_strict_and_loose(tmp_path):
    documents = ifeval.TASK.load([write(tmp_path / "rows.jsonl", ROWS)])
    strict = ifeval.TASK.score(documents[0], answer('"all of it"'), ())
    assert strict.scores == dict.fromkeys(strict.scores, 1.0) and strict.answer == "followed"
    # The first line breaks both instructions and is left out by the loose reading.
    loose = ifeval.TASK.score(documents[0], answer('Sure, here:\n"all of it"'), ())
    assert loose.details == {
        "instructions": ROWS[0]["instruction_id_list"], "strict": [False, False], "loose": [True, True]}
    assert loose.answer == "not followed: punctuation:no_comma, startend:quotation"
    # One instruction of two; nothing that is left out helps the other.
    half = ifeval.TASK.score(documents[0], answer("all of it"), ())
    assert half.scores == {
        "prompt_strict": 0.0, "prompt_loose": 0.0, "instruction_strict": 0.5, "instruction_loose": 0.5}
    # Two of three instructions; the mean over documents would be 3/4.
    other = ifeval.TASK.score(documents[1], answer("uno dos"), ())
    assert metrics(documents, [half, other])["instruction_strict"] == pytest.approx(2 / 3)
    assert ifeval.by_instruction([half, loose, other]) == {
        "es:punctuation:no_comma": (1, 1, 1), "punctuation:no_comma": (2, 1, 2), "startend:quotation": (2, 0, 1)}


@pytest.mark.parametrize("text", ["", " \n\n", "**"])
def test_an_empty_answer_follows_nothing(tmp_path, text):
    document = ifeval.TASK.load([write(tmp_path / "rows.jsonl", ROWS)])[1]
    outcome = ifeval.TASK.score(document, answer(text), ())
    assert outcome.failure == "" and outcome.scores["prompt_strict"] == float(text == "**")


def test_more_languages():
    task = ifeval.make("tests.evals.instructions.test_table:GERMAN")
    assert task.name == "ifeval"
    with pytest.raises(UserError, match="language json:dumps: is function, not"):
        ifeval.make("json:dumps")


@pytest.fixture(scope="module")
def published(shared):
    folder = shared / "data" / "eval_utility"
    documents = ifeval.TASK.load([str(folder / "ifeval_input_data.jsonl")])
    lines = (folder / "ifeval_gpt4_responses.jsonl").read_text().splitlines()
    answers = [json.loads(line)["response"] for line in lines]
    return documents, answers, [ifeval.TASK.score(d, answer(a), ()) for d, a in zip(documents, answers, strict=True)]


def test_the_published_figures_of_gpt4(published):
    """Zhou et al., 2023, table 2: within one prompt of 541, and one instruction of 834."""
    documents, _, outcomes = published
    found = metrics(documents, outcomes)
    assert len(documents) == 541
    assert round(541 * found["prompt_strict"]) in (415, 416, 417)  # 76.89 %
    assert round(541 * found["prompt_loose"]) in (428, 429, 430)  # 79.30 %
    assert round(834 * found["instruction_strict"]) in (696, 697, 698)  # 83.57 %
    assert round(834 * found["instruction_loose"]) in (711, 712, 713)  # 85.37 %
    assert len(ifeval.by_instruction(outcomes)) == 25


def test_a_second_time_gives_the_same(published):
    documents, answers, outcomes = published
    again = [ifeval.TASK.score(d, answer(a), ()) for d, a in zip(documents, answers, strict=True)]
    assert again == outcomes


@pytest.mark.parametrize("language, count, types", [("es", 115, 30), ("fr", 235, 30), ("ja", 172, 33)])
def test_m_ifeval_is_read_whole(shared, language, count, types):
    documents = ifeval.TASK.load([str(shared / "data" / "eval_multilingual" / f"m_ifeval_{language}.jsonl")])
    assert len(documents) == count and {d.tags["language"] for d in documents} == {language}
    outcomes = [ifeval.TASK.score(d, answer(""), ()) for d in documents]
    assert len(ifeval.by_instruction(outcomes)) == types
    assert metrics(documents, outcomes) == dict.fromkeys(metrics(documents, outcomes), 0.0)
