"""XCOPA: sentences as lm-evaluation-harness makes them, but where its form is not the language's."""

import importlib.util
from pathlib import Path

import pytest

from jitune.evals import rows
from jitune.evals.tasks import xcopa


@pytest.fixture(scope="module")
def documents(shared):
    return xcopa.load(rows.find(shared / "data", xcopa.TASK.files))


def test_as_lm_evaluation_harness(documents):
    lm_eval = pytest.importorskip("lm_eval")
    file = Path(lm_eval.__file__).parent / "tasks/xcopa/utils.py"
    spec = importlib.util.spec_from_file_location("xcopa_utils", file)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    compared = 0
    for document in documents:
        language, row = document.tags["language"], document.row
        if language not in ("et", "id", "it", "sw", "vi", "tr") or not row["premise"].strip().endswith((".", "?", "!")):
            continue
        doc = {"premise": row["premise"], "question": row["question"],
               "choice1": row["choices"][0], "choice2": row["choices"][1]}
        assert document.requests[0].prompt == getattr(theirs, f"doc_to_text_{language}")(doc).replace(" .", "")
        for request, choice in zip(document.requests, theirs.doc_to_choice(doc), strict=True):
            if language != "tr" or choice[0] not in "iı":
                assert request.continuation.strip() == choice.strip()
        compared += 1
    assert compared > 2900


def test_forms_of_languages(documents):
    known = {d.id: d for d in documents}
    chinese = known["zh-0"].requests[0]
    assert (chinese.prompt, chinese.continuation) == ("该物品用气泡包装纸包着，因为", "它很易碎。")
    assert known["it-1"].requests[0].prompt == "Avevo svuotato le mie tasche quindi"
    assert all(" " not in r.continuation[:1] for d in documents if d.tags["language"] == "th" for r in d.requests)
    assert xcopa.lower_first("Işık söndü.", "tr") == "ışık söndü." and xcopa.lower_first("İyi", "tr") == "iyi"
    assert xcopa.lower_first("Ita", "it") == "ita"


def test_no_premise_loses_a_letter(documents):
    for document in documents:
        premise = document.row["premise"].strip()
        kept = document.requests[0].prompt[: len(premise)]
        assert premise.rstrip(".。!?！？ ") == kept[: len(premise.rstrip(".。!?！？ "))]
        assert len(premise) - len(premise.rstrip(".。!?！？ ")) <= 3
