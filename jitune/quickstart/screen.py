"""What the quickstart prints: lines of at most 80 columns from questions and shares, without colour."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from pathlib import Path

from jitune.quickstart import tasks
from jitune.quickstart.grade import SHARES

PHASES = {
    "data": "1. Instructions, written from seeds",
    "model": "2. A tiny model, made here",
    "before": "3. What it answers before tuning",
    "train": "4. Tuning",
    "after": "5. What it answers after tuning",
}
WIDTH = 80
SFT = Path(__file__).parents[2] / "configs" / "sft.py"


def describe_data(rows, test) -> list[str]:
    """The rows in two lines, and one of them."""
    example = next(q for q in rows if q.task == "translate")
    return [f"  {len(rows):,} to train on, {len(test)} other questions to test with, of {len(tasks.UTILITY)} kinds "
            "of task,", "  of facts from a text, and of requests to answer or to decline. Such as:",
            *exchange(example.prompt, (("", example.answer),))]


def exchange(prompt: str, answers) -> list[str]:
    """A question and answers to it, each (label, text)."""
    lines = textwrap.wrap(prompt, WIDTH - 6, initial_indent="    ? ", subsequent_indent="      ")
    for label, text in answers:
        mark = f"    {label:6} > " if label else "    > "
        shown = " ".join(text.split()) or "(nothing)"
        lines.append(mark + textwrap.shorten(shown, WIDTH - len(mark), placeholder=" ..."))
    return lines


def headline(shares: dict) -> str:
    """The three areas in one line, in percent."""
    parts = [f"tasks {percent(shares['utility']['all'])} right"]
    for area, kinds in SHARES.items():
        good = [percent(shares[area][name]) for name, _, _, better in kinds if better]
        parts.append(f"{'the text' if area == 'faithfulness' else 'requests'} {' and '.join(good)}")
    return "  " + ", ".join(parts)


def percent(share: dict) -> str:
    """A share in whole percent; a dash where nothing was scored."""
    return "-" if share["share"] is None else f"{100 * share['share']:.0f} %"


def interval(share: dict) -> str:
    """The 95 % interval in whole percent."""
    return "" if share["share"] is None else f"{100 * share['low']:.0f} to {100 * share['high']:.0f}"


def table(summary: dict) -> list[str]:
    """Before and after, a line a share, with intervals and the number of questions."""
    before, after = summary["before"], summary["after"]
    lines = [f"  {'':38}{'before':>8}{'after':>8}{'95 % interval':>16}{'of':>6}"]
    for area in before:
        lines.append(f"  {area}")
        for name in before[area]:
            b, a = before[area][name], after[area][name]
            label = "all tasks" if name == "all" else name
            lines.append(f"    {label:36}{percent(b):>8}{percent(a):>8}{interval(a):>16}{a['n']:>6}")
    unscored = sum(share["unscored"] for area in after.values() for name, share in area.items() if name != "all")
    return lines + ([f"  {unscored} answers were cut off and are not scored"] if unscored else [])


def results(summary: dict) -> list[str]:
    """What came out: a few questions with their answers, and the table."""
    lines = ["", "Some questions of the test, before and after", ""]
    shown = {(s["task"], s["kind"]): s for s in reversed(summary["samples"])}
    for part in (("reverse", "utility"), ("json", "utility"), ("grounded", "stated"), ("grounded", "unstated"),
                 ("safety", "decline"), ("safety", "harmless")):
        if sample := shown.get(part):
            lines += [*exchange(sample["prompt"], (("before", sample["before"]), ("after", sample["after"]))), ""]
    return [*lines, f"What changed in {summary['seconds']['all']:.0f} seconds", "", *table(summary), "",
            *textwrap.wrap(f"In all: {summary['comparison']['verdict']}.", WIDTH - 2, initial_indent="  ",
                           subsequent_indent="  ")]


def where_to_look(out: Path) -> list[str]:
    """The files that a reader wants."""
    files = (("report.html", "curves, tables, samples"), ("comparison.html", "before and after, question by question"),
             ("summary.json", "every figure"),
             ("answers.jsonl", "every question with both answers"), ("model", "the tuned model; transformers loads it"))
    width = max(len(str(out / name)) for name, _ in files)
    return ["", "Look at", *(f"  {str(out / name):{width}}  {what}" for name, what in files)]


def next_commands(out: Path, prompt: str) -> list[str]:
    """Commands that work as they stand; the last tunes the tuned model further."""
    me = command()

    def at(name: str) -> str:
        return shlex.quote(str(out / name))

    return [line for words in (
        [f"{me} generate --model {at('model')}", f"--prompt {shlex.quote(prompt)}"],
        [f"{me} data show {at('data/train.jsonl')}", f"--model {at('model')}"],
        [f"{me} report --run {at('run')}"],
        [f"{me} train" + f" --config {shlex.quote(near(SFT))}" * SFT.exists(), f"--config.model.path={at('model')}",
         f"--config.data.train={at('data/train.jsonl')}", f"--config.output_dir={at('again')}",
         "--config.model.dtype=float32", "--config.seq_len=128", "--config.steps=100"],
    ) for line in wrap(words)]


def wrap(words: list[str]) -> list[str]:
    """A command on as few lines as fit, continued by backslashes."""
    lines = [f"  {words[0]}"]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 <= WIDTH:
            lines[-1] += f" {word}"
        else:
            lines[-1] += " \\"
            lines.append(f"      {word}")
    return lines


def command() -> str:
    """How `jitune` is called from where we are."""
    script = Path(sys.executable).with_name("jitune")
    if shutil.which("jitune") == str(script):
        return "jitune"
    if script.exists():
        return shlex.quote(near(script))
    return f"{shlex.quote(near(Path(sys.executable)))} -m jitune"


def near(path: Path) -> str:
    """A path as it is shortest, relative where it lies below the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
