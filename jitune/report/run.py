"""The page of a training run, finished or not, from the files that the run wrote (see `records`).

    write_report("runs/example")  ->  runs/example/report.html, and the number of its steps

A file or a column that is not there leaves its part of the page out.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from jitune import __version__
from jitune.config import defaults
from jitune.report import charts, curves, page
from jitune.report.page import number, value
from jitune.report.records import Records, column, dig, known, read
from jitune.types import UserError

SHOWN_ANSWERS = 4  # to one prompt, side by side; the others fold away
# The rows of the table of the data: the names in data.json and here.
DATA = {
    "examples": "examples read", "dropped_examples": "examples dropped", "truncated_examples": "examples truncated",
    "split_examples": "examples split", "documents": "documents trained on", "tokens": "tokens",
    "supervised_tokens": "supervised tokens", "supervised_share": "share of supervised tokens",
    "dropped_tokens": "tokens dropped", "truncated_tokens": "tokens cut off", "seq_len": "length of a row",
    "rows": "rows in an epoch", "fill": "share of the rows filled",
}
SHARES = ("supervised_share", "fill")


def write_report(directory: str | Path, out: str | Path | None = None) -> tuple[Path, int]:
    """Writes the page of the run in `directory` to `out` (DIR/report.html); returns its path and the run's steps.

    Raises UserError where there is no run, no finished step, a broken file, or no directory for `out`.
    """
    directory = Path(directory).expanduser()
    path = Path(out).expanduser() if out else directory / "report.html"
    records = read(directory)
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no directory {path.parent}")
    path.write_text(render(records), encoding="utf-8")
    return path, len(records.rows)


def render(r: Records) -> str:
    """The page."""
    return page.page(
        r.name, headline(r), *warnings(r), page.section("Training", page.grid(*curves.draw(r))), answers(r),
        data_section(r.data), start_section(r.startup), config_section(r.config), lead=lead(r),
        footer=f"Made by jitune {__version__} from {', '.join(r.found)}.",
    )


def lead(r: Records) -> str:
    """What was trained on what, and whether it is done."""
    config, steps = r.config, r.rows[-1]["step"]
    total = config.get("steps") or 0
    done = f"{steps:,} of {total:,} steps" if total > steps else f"{steps:,} step{'s' * (steps != 1)}"
    state = ", finished" if r.finished else ", not finished"
    shape = f" of {config['batch_size']} x {config['seq_len']:,} tokens" if "batch_size" in config else ""
    model = tail(dig(config, "model", "path") or "a model")
    data = ", ".join(map(tail, str(dig(config, "data", "train") or "").split(",")))
    return f"{model} tuned on {data or 'unnamed data'}: {done}{shape}{state}."


def tail(path: str) -> str:
    """The last part of a path or a hub name."""
    return Path(path.strip().rstrip("/")).name


def headline(r: Records) -> Markup:
    """The figures that one asks for first."""
    items: list[tuple] = []
    for name, label in (("loss", "Training loss"), ("eval_loss", "Evaluation loss")):
        points = [p for p in column(r, name) if p[1] is not None]
        if points:
            (at, last), (_, first) = points[-1], points[0]
            best = min(points, key=lambda p: p[1])
            note = f"step {at:,}" + (f"; {number(first)} at step {points[0][0]:,}" if len(points) > 1 else "")
            if name == "eval_loss" and best[1] < last:
                note += f"; lowest {number(best[1])} at step {best[0]:,}"
            items.append((label, last, note))
    if known(r, "tokens_per_second"):
        items.append(("Tokens per second", statistics.median(known(r, "tokens_per_second")), "median of the steps"))
    if known(r, "mfu"):
        items.append(("Model FLOPs utilization", value(statistics.median(known(r, "mfu")), percent=True),
                      peak_note(r.startup)))
    if r.startup.get("total_seconds") is not None:
        items.append(("Time to first step", duration(r.startup["total_seconds"]), start_note(r.startup)))
    if known(r, "step_seconds"):
        items.append(("Time in steps", duration(sum(known(r, "step_seconds"))), "evaluation and saving not counted"))
    if known(r, "tokens"):
        seen = sum(known(r, "tokens"))
        share = sum(known(r, "supervised")) / seen if seen else 0
        items.append(("Tokens seen", short(seen), f"{number(share, percent=True)} of them supervised"))
    if r.startup.get("trained_parameters") is not None:
        items.append(("Trained parameters", short(r.startup["trained_parameters"]),
                      f"of {number(r.startup.get('parameters'))}"))
    if known(r, "memory_bytes"):
        kind = {"peak": "peak of the first device", "resident": "resident, of the process"}
        items.append(("Memory", size(max(known(r, "memory_bytes"))), kind.get(r.startup.get("memory"), "")))
    return page.tiles(items)


def peak_note(startup: dict) -> str:
    """What a utilization is a share of."""
    peak = startup.get("peak_flops")
    if not peak:
        return "median of the steps"
    source = f" ({startup['peak_source']})" if startup.get("peak_source") else ""
    return f"median; of {flops(peak).striptags()}{source}"


def start_note(startup: dict) -> str:
    """How the start went: compiled or not, resumed or not."""
    notes = [f"resumed at step {startup['step']:,}"] if startup.get("step", 1) > 1 else []
    compiling = dig(startup, "seconds", "compile")
    notes += [f"compiling {number(round(compiling, 1))} s"] if compiling is not None else []
    notes += ["program from the cache"] if startup.get("step_from_cache") else []
    return "; ".join(notes)


def warnings(r: Records) -> list[Markup]:
    """What the reader must not miss."""
    found = []
    broken = [step for step, y in column(r, "loss") if y is None]
    if broken:
        found.append(f"The loss of {len(broken):,} step{'s' * (len(broken) > 1)} is not finite, "
                     f"first that of step {broken[0]:,}.")
    for split, stats in r.data.items():
        for verb in ("dropped", "truncated"):
            if stats and stats.get(f"{verb}_examples"):
                count, tokens = stats[f"{verb}_examples"], stats.get(f"{verb}_tokens", 0)
                found.append(f"{count:,} of {stats.get('examples', 0):,} examples of the {split} data were {verb} "
                             f"({tokens:,} tokens).")
    return [page.paragraph(Markup("<strong>Note.</strong> {}").format(text)) for text in found]


def answers(r: Records) -> Markup:
    """The answers to each prompt over the steps, in the order of the prompts."""
    asked: dict[str, list] = {}
    for row in r.samples:
        verdict = "cut off" if row.get("finish_reason") == "length" else None
        asked.setdefault(prompt_text(row), []).append((f"step {row['step']:,}", row.get("text", ""), verdict))
    if not asked:
        return Markup("")
    shown = []
    for prompt, given in asked.items():
        chosen = spread(given, SHOWN_ANSWERS)
        shown.append(page.sample(prompt, chosen))
        if len(chosen) < len(given):
            shown.append(page.details(f"All {len(given)} answers", page.sample(prompt, given)))
    return page.section("Answers while training", *shown, note="Greedy, by the weights at that step.")


def prompt_text(row: dict) -> str:
    """The prompt of a sample; of a conversation of several messages, each with its role."""
    messages = row.get("messages")
    if not messages:
        return row.get("prompt", "")
    if len(messages) == 1:
        return message_text(messages[0])
    return "\n".join(f"{m.get('role')}: {message_text(m)}" for m in messages)


def message_text(message: dict) -> str:
    """What a message says, or what it calls."""
    said = message.get("content")
    return said if isinstance(said, str) and said else json.dumps(said or message.get("tool_calls"), ensure_ascii=False)


def spread(items: list, most: int) -> list:
    """At most `most` of the items, first and last among them, evenly apart."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def data_section(data: dict) -> Markup:
    """What the data are, what became of them, and how much of them is trained."""
    splits = {name: stats for name, stats in data.items() if stats}
    if not splits:
        return Markup("")
    rows = [[label, *(value(s.get(name), percent=name in SHARES) for s in splits.values())]
            for name, label in DATA.items() if any(name in s for s in splits.values())]
    notes = dict.fromkeys(note for s in splits.values() for note in s.get("notes") or {})
    rows += [[note, *(value(dig(s, "notes", note)) for s in splits.values())] for note in notes]
    drawn = [histogram(s["lengths"], name) for name, s in splits.items() if s.get("lengths")]
    sources = [[one["source"], name, one.get("documents"), one.get("tokens")]
               for name, s in splits.items() for one in s.get("sources") or []]
    return page.section(
        "Data", page.grid(page.table(["", *splits], rows, caption="What was read, and what is trained of it"), *drawn),
        page.table(["source", "used for", "documents", "tokens"], sources, caption="Sources") if sources else "",
    )


def histogram(lengths: dict, name: str) -> Markup:
    """How long the documents are."""
    edges, counts = lengths["edges"], lengths["counts"]
    held = [i for i, count in enumerate(counts) if count] or [0]
    inside = range(held[0], held[-1] + 1)  # without what is empty at either end
    groups = [f"{edges[i] + 1:,}\N{EN DASH}{edges[i + 1]:,}" for i in inside]
    found = "; ".join(f"{k} {number(lengths[k])}" for k in ("min", "median", "max") if k in lengths)
    title = f"Tokens in a document, {name} data" + (f" ({found})" if found else "")
    return charts.bars(groups, {"documents": [counts[i] for i in inside]}, title=title)


def start_section(s: dict) -> Markup:
    """Where the time to the first step went, and what it ran on."""
    if not s:
        return Markup("")
    drawn = []
    if s.get("seconds"):
        seconds = {"seconds": list(s["seconds"].values())}
        drawn.append(charts.bars(list(s["seconds"]), seconds, title="Time to first step, in seconds"))
    labels = {"device": "device", "platform": "platform", "devices": "devices", "processes": "processes",
              "parameters": "parameters", "trained_parameters": "trained parameters"}
    rows: list[list] = [[label, s[name]] for name, label in labels.items() if s.get(name) is not None]
    if s.get("peak_flops"):
        rows.append(["peak of all devices", flops(s["peak_flops"])])
    if "step_from_cache" in s:
        state = {True: "read from the cache", False: "compiled", None: "compiled, the cache is off"}
        rows.append(["train step", state.get(s["step_from_cache"])])
    rows += [[name, version] for name, version in (s.get("versions") or {}).items()]
    drawn += [page.table(["", ""], rows, caption="What it ran on")] if rows else []
    return page.section("Start and machine", page.grid(*drawn))


def config_section(config: dict) -> Markup:
    """The options that differ from the defaults; the whole of them folded away."""
    given, standard = flatten(config), flatten(defaults().to_dict())
    changed = [[name, setting(v), setting(standard[name]) if name in standard else None]
               for name, v in given.items() if name not in standard or standard[name] != v]
    return page.section(
        "Configuration", page.table(["option", "value", "default"], changed, numeric=(), caption="What was set"),
        page.details("The whole configuration", page.code(json.dumps(config, indent=2, ensure_ascii=False))),
    )


def flatten(tree: dict, prefix: str = "") -> dict:
    """{"data.train": ..., ...}, in the order of the tree."""
    flat = {}
    for key, v in tree.items():
        flat |= flatten(v, f"{prefix}{key}.") if isinstance(v, dict) else {prefix + key: v}
    return flat


def setting(v: Any) -> Markup | str:
    """An option's value as it would be typed."""
    if isinstance(v, (int, float)) and not isinstance(v, bool):
        return value(v, text=page.exact(v))
    return v if isinstance(v, str) and v else json.dumps(v)


def in_units(units: tuple[tuple[float, str], ...]) -> Callable[[float], Markup]:
    """A function that shows a number in the largest unit that it reaches: 5400 s -> "1.5 h"."""

    def show(x: float) -> Markup:
        size, name = next((u for u in units if x >= u[0]), units[-1])
        return value(x, text=number(float(f"{x / size:.3g}" if x < 1000 * size else x / size)), unit=name)

    return show


duration = in_units(((3600, "h"), (60, "min"), (1, "s")))
size = in_units(((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")))
flops = in_units(((1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s")))
short = in_units(((1e9, "billion"), (1e6, "million"), (1, "")))
