"""jitune report: the HTML page of a training run or an evaluation; jitune report compare: two evaluations."""

from __future__ import annotations

EXAMPLES = """\
  jitune report runs/alpaca                     a training run, finished or not
  jitune report eval/tuned                      an evaluation
  jitune report compare eval/base eval/tuned    what changed to the second one
"""


def add(commands) -> None:
    """jitune report"""
    import argparse

    p = commands.add_parser("report", help="make the HTML page of a run or an evaluation; compare two evaluations",
                            description="Makes the HTML page of a run, or compares two evaluations.",
                            epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("words", nargs="*", metavar="DIR | compare A B",
                   help="the output_dir of a run, the --out of an evaluation; or compare and two of the latter")
    p.add_argument("--run", dest="directory", metavar="DIR", help="the same as DIR")
    p.add_argument("--out", metavar="FILE.html", help="where the page goes; DIR/report.html by default, and nowhere "
                                                      "for compare")
    p.add_argument("--json", metavar="FILE.json", help="compare: where the numbers go")
    p.add_argument("--force", action="store_true",
                   help="compare: runs of other documents, prompts, limits or judges too, by what they share")
    p.set_defaults(run=run)


def run(a) -> None:
    """Writes the page, or compares."""
    from jitune.types import UserError

    words = a.words
    if words[:1] == ["compare"]:
        if len(words) != 3 or a.directory:
            raise UserError(f"report compare takes two folders of evaluations; {len(words) - 1} were given")
        return compare(words[1], words[2], a)
    given = [*words, *([a.directory] if a.directory else [])]
    if len(given) != 1 or a.json or a.force:
        raise UserError("report takes one folder, DIR or --run DIR, or compare A B; --json and --force go with compare")
    return write(given[0], a.out)


def write(directory: str, out: str | None) -> None:
    """The page of a run or of an evaluation."""
    from pathlib import Path

    if (Path(directory) / "results.json").is_file():
        from jitune.evals.pages.evaluation import write_page

        print(write_page(directory, out))
        return
    from jitune.report.run import write_report

    path, steps = write_report(directory, out)
    print(f"{path}: {steps:,} step{'s' if steps != 1 else ''}, {path.stat().st_size / 1024:,.0f} KiB")


def compare(first: str, second: str, a) -> None:
    """Prints the comparison, and writes what was asked for."""
    import json
    from pathlib import Path

    from rich.console import Console

    from jitune.evals.comparison.compare import compare as compare_runs
    from jitune.evals.comparison.text import print_comparison

    found = compare_runs(first, second, force=a.force)
    print_comparison(Console(highlight=False, emoji=False, markup=False), found)
    texts = {a.json: lambda: json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n",
             a.out: lambda: page(found)}
    for name, text in texts.items():
        if name:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text(), encoding="utf-8")
            print(name)


def page(found: dict) -> str:
    """The HTML page of a comparison."""
    from jitune.evals.pages.comparison import render

    return render(found)
