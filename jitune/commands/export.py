"""jitune export: the weights of a run in another layout."""

from __future__ import annotations


def add(commands) -> None:
    """jitune export"""
    p = commands.add_parser("export", help="write a run's weights in another layout")
    p.add_argument("--run", dest="directory", required=True, metavar="DIR")
    p.add_argument("--to", required=True, choices=("hf",))
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--step", default="last", help="last | best | a step that has a checkpoint")
    p.add_argument("--dtype", default="float32", help="float32 | bfloat16")
    p.set_defaults(run=run)


def run(a) -> None:
    """Writes a run's weights."""
    from jitune.export import export

    export(a.directory, a.out, step=a.step, dtype=a.dtype)
    print(f"saved {a.out}")
