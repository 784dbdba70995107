"""The curves of a training run: every column of metrics.jsonl that is known, over the steps.

    draw(records)  ->  [Markup, ...]      # the losses first; a run with pairs has their margins and log-probabilities
"""

from __future__ import annotations

from markupsafe import Markup

from jitune.options import PREFERENCES
from jitune.report import charts
from jitune.report.records import Records, column, dig, known

# How single columns are drawn; those that a run lacks are left out.
CURVES: dict[str, dict] = {
    "accuracy": {"title": "Accuracy of the next token", "percent": True},
    "learning_rate": {"title": "Learning rate", "zero": True},
    "grad_norm": {"title": "Gradient norm, before clipping", "log": True},
    "param_norm": {"title": "Norm of the trained weights"},
    "tokens_per_second": {"title": "Tokens per second", "zero": True},
    "generated_per_second": {"title": "Tokens per second of own answers", "zero": True},
    "supervised_share": {"title": "Share of supervised tokens", "zero": True, "percent": True},
    "mfu": {"title": "Model FLOPs utilization", "zero": True, "percent": True},
}
# Several columns in one chart: the chart, and {the name of a line: its column}.
TOGETHER: tuple[tuple[dict, dict[str, str]], ...] = (
    ({"title": "Margin of the rewards"}, {"training": "margin", "evaluation": "eval_margin"}),
    ({"title": "Pairs told apart", "percent": True}, {"training": "accuracy", "evaluation": "eval_accuracy"}),
    ({"title": "Log-probability of answers", "y_label": "nats"},
     {"wanted": "chosen_logprob", "unwanted": "rejected_logprob"}),
    ({"title": "Rewards"}, {"wanted": "chosen_reward", "unwanted": "rejected_reward"}),
    ({"title": "Cross-entropy of wanted answers", "y_label": "nats per token"},
     {"training": "nll", "evaluation": "eval_nll"}),
)
DISTILLED: tuple[tuple[dict, dict[str, str]], ...] = (
    ({"title": "Divergence from the teacher", "y_label": "nats per token"},
     {"training": "divergence", "evaluation": "eval_divergence"}),
    ({"title": "Cross-entropy with the data", "y_label": "nats per token"},
     {"training": "nll", "evaluation": "eval_nll"}),
)


def draw(r: Records) -> list[Markup]:
    """One chart for each thing that is known."""
    objective = dig(r.config, "objective", "name") or "sft"
    paired = objective in PREFERENCES
    unit = "nats per token" if not paired else "per answer" if objective == "kto" else "per pair"
    drawn = [_lines(r, {"title": "Loss", "y_label": unit}, {"training": "loss", "evaluation": "eval_loss"})]
    groups = TOGETHER if paired else DISTILLED if objective == "distill" else ()
    drawn += [_lines(r, how, names) for how, names in groups if any(known(r, name) for name in names.values())]
    shown = {name for _, names in groups for name in names.values()}
    drawn += [charts.lines({name: column(r, name)}, **how) for name, how in CURVES.items()
              if known(r, name) and name not in shown]
    if known(r, "memory_bytes"):
        memory = [(x, None if y is None else y / 2**30) for x, y in column(r, "memory_bytes")]
        drawn.append(charts.lines({"memory": memory}, title="Memory", y_label="GiB", zero=True))
    return drawn


def _lines(r: Records, how: dict, names: dict[str, str]) -> Markup:
    return charts.lines({name: column(r, key) for name, key in names.items() if known(r, key)}, **how)
