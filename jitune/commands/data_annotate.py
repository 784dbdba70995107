"""jitune data annotate: a page to annotate on, and what comes out of it."""

from __future__ import annotations

import os

from jitune.types import UserError

PORT = 8765
EXAMPLES = """\
  jitune data annotate data.jsonl --annotator ann --task rate \\
    --scale 1=poor,2=fair,3=good
  jitune data annotate data.jsonl --annotators ann,bo,cy --overlap 2 \\
    --task pair,flag --guidelines guide.md
  jitune data annotate data.jsonl --export annotated.jsonl
  jitune data annotate data.jsonl --export annotated.json --to label_studio
"""


def add(commands) -> None:
    """jitune data annotate"""
    import argparse

    p = commands.add_parser("annotate", help="write, rate, compare, rank, correct and flag records on a local page",
                            epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", metavar="FILE", help="records in any format that jitune reads")
    p.add_argument("--annotator", metavar="NAME", default="", help="opens the page of this annotator")
    p.add_argument("--task", action="append", default=[], metavar="KINDS", help="what is asked, joined by commas: "
                   "write, rate, pair, rank, correct, flag; each also as KIND:NAME (rate)")  # fmt: skip
    p.add_argument("--scale", action="append", default=[], metavar="POINTS", help="1-7, or 1=poor,2=fair, or yes,no; "
                   "NAME:POINTS for one question only")  # fmt: skip
    p.add_argument("--reasons", action="append", default=[], metavar="A,B", help="of flags")
    p.add_argument("--ask", action="append", default=[], metavar="NAME=TEXT", help="the words of a question")
    p.add_argument("--annotators", default="", metavar="A,B,C", help="who annotates; without it whoever gives a name, "
                   "and all see all items")  # fmt: skip
    p.add_argument("--overlap", type=int, default=0, metavar="K", help="annotators of each item; 0: all of them")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of who gets which item, and the order of answers")
    p.add_argument("--guidelines", default="", metavar="FILE.md", help="shown beside the items")
    p.add_argument("--log", default="", metavar="FILE", help="where answers are kept (FILE.annotations.jsonl)")
    p.add_argument("--format", default="auto", help="of the records, see jitune data convert")
    p.add_argument("--fields", default="", help="instruction=question,output=answer")
    p.add_argument("--host", default="127.0.0.1", help="where to listen; other than loopback needs a token, which is "
                   "made and printed")  # fmt: skip
    p.add_argument("--port", type=int, default=PORT, metavar="N", help=f"({PORT}); 0: one that is free")
    p.add_argument("--no_browser", "--no-browser", action="store_true", help="do not open the page")
    p.add_argument("--export", default="", metavar="OUT", help="write what was annotated, and serve nothing")
    p.add_argument("--to", default="records", choices=("records", "label_studio"), help="of --export (records)")
    p.set_defaults(run=run)


def run(a) -> int:
    """Annotates, or exports."""
    from jitune.construct.annotate import command

    if not a.log and not os.path.exists(os.path.expanduser(a.source)):
        raise UserError(f"{a.source}: no such file; for a dataset or several files give --log too")
    log = a.log or os.path.expanduser(a.source).rstrip("/") + ".annotations.jsonl"
    if a.export:
        print(command.export(a.source, log, a.export, to=a.to, format=a.format, fields=a.fields))
        return 0
    if not 0 <= a.port < 65536:
        raise UserError(f"--port {a.port}: must be 0 to 65535")
    options = command.Options(
        tasks=a.task, scales=a.scale, reasons=a.reasons, asks=a.ask, overlap=a.overlap, seed=a.seed,
        annotators=tuple(name for name in a.annotators.split(",") if name.strip()), format=a.format, fields=a.fields,
        guidelines=a.guidelines)
    command.annotate(a.source, log, options, annotator=a.annotator, host=a.host, port=a.port, browser=not a.no_browser)
    return 0
