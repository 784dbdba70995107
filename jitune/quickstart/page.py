"""report.html of the quickstart: its summary and the metrics of its run in, one self-contained page out."""

from __future__ import annotations

from markupsafe import Markup

from jitune.evals.pages.shown import said_p
from jitune.quickstart import grade
from jitune.report import charts
from jitune.report.page import code, details, grid, page, paragraph, sample, section, table, tiles, value

NAMES = {"utility": "tasks", "stated": "stated in the text", "unstated": "not stated in the text",
         "decline": "to be declined", "harmless": "harmless look-alike"}


def make_page(summary: dict, metrics: list[dict], commands: str = "") -> str:
    """The page. metrics: the rows of metrics.jsonl; commands: what to type next."""
    seconds, model, data = summary["seconds"], summary["model"], summary["data"]
    lead = (f"A model of {model['parameters']:,} parameters, made and tuned in {seconds['all']:.0f} seconds on "
            f"{summary['machine']['cores']} CPU cores. Every figure was measured in this run.")
    return page(
        "jitune quickstart",
        tiles(headlines(summary)),
        section("What changed", changes(summary["comparison"]),
                note="Of all questions that came out as wanted, in percentage points, paired question by question; "
                     "comparison.html, beside this page, has more."),
        section("Tuning", grid(*curves(metrics)), note=training_note(summary)),
        section("Utility", chart(summary, "utility"), shares(summary, "utility"),
                note="Exact answers to questions that were not trained on, by task. Some tasks are hard for so small "
                     "a model."),
        section("Faithfulness", chart(summary, "faithfulness"), shares(summary, "faithfulness"),
                note="Two facts about somebody, and a question that they answer or do not."),
        section("Safety", chart(summary, "safety"), shares(summary, "safety"),
                note="Requests to decline, and harmless ones with the same actions and things."),
        section("Samples", *samples(summary),
                note="Of every part of the test its first question and, where that went well, the first that did not."),
        section("How it was measured", paragraph(data["held_out"]),
                paragraph("Intervals are Wilson's at 95 %. An answer that was cut off where it might still have "
                          "become right is not scored, and counted."), details("The run", about(summary))),
        *([section("What to type next", code(commands))] if commands else []),
        lead=lead, footer="Made of summary.json and run/metrics.jsonl beside this page.",
    )


def changes(comparison: dict) -> Markup:
    """The table of the comparison."""
    rows = [[area, value(x["delta"], percent=True), value(x["low"], percent=True), value(x["high"], percent=True),
             said_p(x["p"]), value(x["better"]), value(x["worse"]), value(x["pairs"])]
            for area, x in comparison["areas"].items()]
    return table(["", "change", "low", "high", "p", "became right", "became wrong", "questions"], rows,
                 caption=comparison["verdict"])


def headlines(summary: dict) -> list[tuple]:
    """The five shares in which more is better."""
    found = [("utility", "all", "tasks answered rightly")]
    found += [(area, name, name) for area, kinds in grade.SHARES.items() for name, _, _, good in kinds if good]
    return [(label, figure(summary["after"][area][name]),
             Markup("{} before tuning").format(figure(summary["before"][area][name]))) for area, name, label in found]


def figure(share: dict) -> Markup:
    """A share as a number in percent."""
    return value(share["share"], percent=True)


def curves(metrics: list[dict]) -> list[Markup]:
    """Losses, speed and learning rate by step."""
    def series(name):
        return [(row["step"], row[name]) for row in metrics if row.get(name) is not None]

    return [
        charts.lines({"training": series("loss"), "test questions": series("eval_loss")}, title="Loss (nats a token)",
                     log=True),
        charts.lines({"learning rate": series("learning_rate")}, title="Learning rate", zero=True),
        charts.lines({"tokens a second": series("tokens_per_second")}, title="Tokens a second", zero=True),
    ]


def training_note(summary: dict) -> Markup:
    """Steps, tokens, losses in a sentence."""
    training = summary["training"]
    shown = [summary["steps"], *(training[name] for name in ("tokens", "tokens_per_second", "loss_first", "loss_last",
                                                             "eval_loss_last"))]
    return Markup("{} steps, {} tokens, {} a second. Loss {} at the first step, {} over the last; on the test "
                  "questions {} at the end.").format(*map(value, shown))


def chart(summary: dict, area: str) -> Markup:
    """Bars before and after with their intervals."""
    names = list(summary["after"][area])
    series = {when: [summary[when][area][n]["share"] for n in names] for when in ("before", "after")}
    errors = {when: [ends(summary[when][area][n]) for n in names] for when in ("before", "after")}
    return charts.bars([label(n) for n in names], series, errors=errors, percent=True,
                       title=f"{area.capitalize()}: share of the questions")


def ends(share: dict) -> tuple[float, float] | None:
    """The interval, for a whisker."""
    return None if share["share"] is None else (share["low"], share["high"])


def label(name: str) -> str:
    """A share's name as it is shown."""
    return "all tasks" if name == "all" else name


def shares(summary: dict, area: str) -> Markup:
    """The table of an area: counts, shares and intervals before and after."""
    rows = []
    for name, after in summary["after"][area].items():
        before = summary["before"][area][name]
        rows.append([label(name), figure(before), figure(after), value(after["low"], percent=True),
                     value(after["high"], percent=True), value(after["correct"]), value(after["n"]),
                     value(after["unscored"])])
    return table(["", "before", "after", "low", "high", "count", "of", "unscored"], rows,
                 caption=f"{area.capitalize()}, with the 95 % interval after tuning")


def samples(summary: dict) -> list[Markup]:
    """Questions with both answers and the verdict on each."""
    shown = []
    for s in summary["samples"]:
        goal = grade.GOAL[s["kind"]]
        answers = [(f"{when} tuning", s[when], verdict(s[f"outcome_{when}"], goal)) for when in ("before", "after")]
        shown.append(sample(s["prompt"], [*answers, ("expected", s["answer"])],
                            label=s["task"] if s["kind"] == "utility" else f"{s['task']}, {NAMES[s['kind']]}"))
    return shown


def verdict(outcome: str | None, goal: str) -> bool | str:
    """Right or wrong; text where it was not scored."""
    return "not scored" if outcome is None else outcome == goal


def about(summary: dict) -> Markup:
    """Versions, machine, sizes, seconds."""
    flat = [(f"{group}: {name}" if isinstance(found, dict) else group, x)
            for group in ("seed", "steps", "machine", "versions", "model", "data", "training", "seconds")
            for found in [summary[group]]
            for name, x in (found.items() if isinstance(found, dict) else [("", found)]) if name != "held_out"]
    return table(["", "value"], flat, numeric=())
