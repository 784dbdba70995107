"""BEGIN: the measures against human labels, by hand and on the real files."""

import pytest

from jitune.evals.task import Verdict
from jitune.evals.tasks import begin
from jitune.evals.tasks.begin import TASK, score
from jitune.types import UserError

HEADER = "model_name\tdata_source\tknowledge\tmessage\tresponse\tbegin_label\n"
METRICS = {m.name: m for m in TASK.metrics}
YES, NO = "Fully attributable", "Not fully attributable"


def write(path, *given):
    path.write_text(HEADER + "".join(f"t5\twow\ta b c d\thi\t{response}\t{label}\n" for response, label in given))
    return str(path)


def corpus(name, documents, outcomes):
    return METRICS[name].corpus(documents, outcomes)


@pytest.fixture
def documents(tmp_path):
    dev = write(tmp_path / "begin_dev.tsv", ("a b c", YES), ("a b x y", NO))
    test = write(tmp_path / "begin_test.tsv", ("a b c d", YES), ("a x", YES), ("a b c z", NO), ("x", NO),
                 ("ok", "Generic"))
    return TASK.load([dev, test])


def test_values_by_hand(documents):
    outcomes = [score(d, (), ()) for d in documents]
    assert all(d.requests == () for d in documents)
    precision = [o.scores.get("word_precision_auc") for o in outcomes]
    assert precision == [1.0, 0.5, 1.0, 0.5, 0.75, 0.0, None]
    # Attributable 1, 1, 1/2 against 1/2, 3/4, 0: nine pairs, of which 3 + 3 + (1 tie, 1 won) are won.
    assert corpus("word_precision_auc", documents, outcomes) == pytest.approx((3 + 3 + 1.5) / 9)
    # The threshold of dev is 1: of the test files one of two attributable responses, and both others.
    assert corpus("word_precision_bacc", documents, outcomes) == pytest.approx((1 / 2 + 2 / 2) / 2)
    assert corpus("word_precision_bacc", documents[2:], outcomes[2:]) is None
    assert outcomes[-1].failure == "generic" and outcomes[-1].scores == {}


def test_the_judge(documents):
    forms = ["[[attributable: 1]]", "[[attributable: 1]]", "[[attributable: 0]]", "who knows"]
    outcomes = [score(d, (), (Verdict(f),)) for d, f in zip(documents, forms, strict=False)]
    assert [o.scores["judge_accuracy"] for o in outcomes] == [1.0, 0.0, 0.0, None]
    assert outcomes[-1].failure == "judge" and outcomes[-1].scores["kf1_auc"] is not None
    assert corpus("judge_bacc", documents[:4], outcomes) == pytest.approx((1 / 2 + 0) / 2)
    [question] = begin.ask(documents[0], ())
    assert "a b c d" in question.messages[1][1] and begin.ask(documents[-1], ()) == ()


def test_broken_rows_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"begin_dev\.tsv:2: begin_label is 'Maybe'; it is one of Fully"):
        TASK.load([write(tmp_path / "begin_dev.tsv", ("a", YES), ("a", "Maybe"))])
    with pytest.raises(UserError, match=r"begin_dev\.tsv:1: response is empty"):
        TASK.load([write(tmp_path / "begin_dev.tsv", ("", YES))])


def test_the_real_files(shared):
    """The figures of the module's docstring."""
    files = [str(shared / f"data/eval_faithfulness/begin_wow_{s}.tsv") for s in ("dev", "test")]
    documents = TASK.load(files)
    assert len(documents) == 430 + 3607 and len({d.id for d in documents}) == len(documents)
    assert sum(d.target == YES for d in documents) == 180 + 1392
    outcomes = [score(d, (), ()) for d in documents]
    assert sum(o.failure == "generic" for o in outcomes) == 6
    for name, area, balanced in (("word_precision", 0.937, 0.853), ("bigram_coverage", 0.912, 0.834),
                                 ("kf1", 0.832, 0.725), ("rouge_l", 0.840, 0.755)):
        assert corpus(f"{name}_auc", documents, outcomes) == pytest.approx(area, abs=0.0006)
        assert corpus(f"{name}_bacc", documents, outcomes) == pytest.approx(balanced, abs=0.0006)
