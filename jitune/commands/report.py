"""jitune report: the HTML page of a training run."""

from __future__ import annotations


def add(commands) -> None:
    """jitune report"""
    p = commands.add_parser("report", help="make the HTML page of a training run, finished or not")
    p.add_argument("--run", dest="directory", required=True, metavar="DIR", help="the output_dir of the run")
    p.add_argument("--out", metavar="FILE.html", help="where the page goes; DIR/report.html by default")
    p.set_defaults(run=run)


def run(a) -> None:
    """Writes the page."""
    from jitune.report.run import write_report

    path, steps = write_report(a.directory, a.out)
    print(f"{path}: {steps:,} step{'s' if steps != 1 else ''}, {path.stat().st_size / 1024:,.0f} KiB")
