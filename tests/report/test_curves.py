"""What is drawn of a run, by its objective and the columns that it has."""

import re

from jitune.report import curves
from jitune.report.records import Records


def titles(objective: str | None, **columns) -> list[str]:
    rows = [{name: values[i] for name, values in {"step": (1, 2), **columns}.items() if values[i] is not None}
            for i in (0, 1)]  # fmt: skip
    config = {"objective": {"name": objective}} if objective else {}
    drawn = curves.draw(Records("run", config, rows, [], {}, {}, True, []))
    return [re.search(r"<(?:figcaption|title)[^>]*>(.*?)<", str(one))[1] for one in drawn]


PAIRS = {"loss": (0.69, 0.5), "margin": (0.0, 0.4), "eval_margin": (None, 0.3), "accuracy": (0.0, 1.0),
         "chosen_logprob": (-9.0, -8.0), "rejected_logprob": (-9.0, -12.0), "chosen_reward": (0.0, 0.1),
         "rejected_reward": (0.0, -0.3), "grad_norm": (1.0, 2.0)}  # fmt: skip


def test_a_run_of_pairs_shows_margins_and_both_sides():
    found = titles("dpo", **PAIRS)
    assert found == ["Loss", "Margin of the rewards", "Pairs told apart", "Log-probability of answers", "Rewards",
                     "Gradient norm, before clipping"]  # fmt: skip
    rows = [{"step": step, **{name: values[step - 1] for name, values in PAIRS.items()}} for step in (1, 2)]
    text = "".join(map(str, curves.draw(Records("run", {"objective": {"name": "kto"}}, rows, [], {}, {}, True, []))))
    assert "per answer" in text and "nats per token" not in text
    assert all(word in text for word in ("wanted", "unwanted", "evaluation"))


def test_other_runs_show_what_they_have():
    assert titles(None, loss=(2.0, 1.0), accuracy=(0.1, 0.2)) == ["Loss", "Accuracy of the next token"]
    assert titles("distill", loss=(2.0, 1.0), divergence=(0.3, 0.2), nll=(2.0, 1.9), accuracy=(0.1, 0.2)) == [
        "Loss", "Divergence from the teacher", "Cross-entropy with the data", "Accuracy of the next token"]
