"""jitune data agreement: how far people agree on labels, what they say together, and on which items they do not."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from jitune.types import UserError

LARGE = 2**24  # bytes that take long enough to read for a bar
EXAMPLES = """\
where the labels stand is found where it is plain, and otherwise said:
  a row a label: item, annotator, label
      jitune data agreement ratings.csv
  a column an annotator
      jitune data agreement wide.csv --label "annotation_{n}"
  a file an annotator
      jitune data agreement ann.csv bo.csv --item id --label truthful
  a row several items of an annotator
      jitune data agreement crowd.csv --item "q{n}_uid" --label "Answer.q{n}" \\
        --annotator worker
  records with annotations
      jitune data agreement records.jsonl --level ordinal --accept ">=4"

written to --out: agreement.html, agreement.json, aggregated.jsonl (a row an
item) and queue.jsonl (the most disagreed items without what was said of them,
for people to judge again)
"""


def add(commands) -> None:
    """jitune data agreement"""
    import argparse

    p = commands.add_parser("agreement", help="how far annotators agree, and what they say together",
                            epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="+", metavar="FILE", help="CSV, TSV, JSON or Parquet tables; records; exports of "
                   "Label Studio or Argilla")
    p.add_argument("--out", default="agreement", metavar="DIR", help="where everything is written (agreement)")
    p.add_argument("--format", default="auto", help="table, jitune, label_studio, label_studio_min, argilla, "
                   "argilla_flat or argilla_old (found by the first row)")
    where = p.add_argument_group("where the labels stand")
    where.add_argument("--item", default="", metavar="COLUMN", help='what names the item; "q{n}_uid": several in a row')
    where.add_argument("--annotator", default="", metavar="COLUMN", help="who gave the label")
    where.add_argument("--label", default="", metavar="COLUMNS", help='joined by commas, a question each; '
                       '"label_{n}": numbered columns')
    where.add_argument("--annotators", default="", metavar="COLUMNS", help="of one question, an annotator each")
    where.add_argument("--question", default="", metavar="COLUMN", help="what names the question of a row")
    where.add_argument("--seconds", default="", metavar="COLUMN", help="how long it took")
    where.add_argument("--state", default="", metavar="COLUMN", help="labelled, empty or skipped")
    where.add_argument("--between", default="", metavar="A,B", help="columns of what a vote compares; --label is the "
                       "winner's name or column, first, second or tie")
    what = p.add_argument_group("what the labels are")
    what.add_argument("--scale", action="append", default=[], metavar="A,B,C", help="all labels, in their order; "
                      '"QUESTION=A,B,C" for one question')
    what.add_argument("--level", action="append", default=[], metavar="LEVEL", help="nominal, ordinal or interval; "
                      '"QUESTION=LEVEL" for one question')
    what.add_argument("--missing", default="", metavar="A,B", help="what stands for no answer, such as NA")
    what.add_argument("--empty", default="", metavar="LABEL", help="the label that an empty answer counts as")
    what.add_argument("--conflicts", default="error", choices=("error", "first", "last", "drop"),
                      help="two labels of one annotator on one item that differ")
    told = p.add_argument_group("what is told")
    told.add_argument("--accept", action="append", default=[], metavar="RULE", help='the accepted fraction: ">=4", or '
                      'labels; "QUESTION=>=4" for one question')
    told.add_argument("--questions", default="", metavar="A,B", help="only these; all by default")
    told.add_argument("--hide", default=None, metavar="COLUMNS", help="left out of queue.jsonl besides the labels; "
                      "those named like final_label, gold or agreement by default")
    told.add_argument("--queue", type=int, default=50, metavar="N", help="the N most disagreed items (50)")
    told.add_argument("--smoothing", type=float, default=0.01, help="of Dawid and Skene's model (0.01)")
    told.add_argument("--replicates", type=int, default=1000, help="of the bootstrap (1000)")
    told.add_argument("--seed", type=int, default=0)
    p.set_defaults(run=run)


def run(a) -> None:
    """Reads, measures, prints and writes."""
    from jitune.construct.agreement.chosen import by_question, by_rule
    from jitune.construct.agreement.files import NAMES, plain, write
    from jitune.construct.agreement.labels import Sheet
    from jitune.construct.agreement.read import read
    from jitune.construct.agreement.text import fold, lines
    from jitune.evals.pages.shown import clean

    check(a)
    scales, levels, rules = by_question(a.scale, "--scale"), by_question(a.level, "--level"), by_rule(a.accept)
    scales = {name: split(text) for name, text in scales.items()}
    labels = read(a.files, columns(a), missing=split(a.missing), format=a.format,
                  hide=None if a.hide is None else split(a.hide))
    over = {(Path(a.out) / name).resolve() for name in NAMES} & {Path(file).resolve() for file in labels.files}
    if over:
        raise UserError(f"--out {a.out}: {over.pop().name} there is one of the files that are read")
    sheet = Sheet(scales=scales, conflicts=a.conflicts, empty=a.empty)
    collect(labels, sheet, split(a.questions))
    for option, names in (("scale", scales), ("level", levels), ("accept", rules)):
        known(f"--{option}", names, sheet.questions())
    results = study(a, labels, sheet, levels=levels, rules=rules, scales=scales)
    with reading(labels, "texts", shown=any(found.get("queue") for found in results["questions"])) as told:
        written = write(results, sheet, labels, a.out, told=told)
    for line in lines(clean(plain(results))):  # whatever labels hold, a terminal obeys none of it
        print(line)
    print(f"\n{a.out}: {', '.join(written)}")
    if labels.hidden:
        print("\n".join(fold(f"queue.jsonl does not show {clean(', '.join(sorted(labels.hidden)))}, which may tell "
                             "what was said; --hide chooses")))


def check(a) -> None:
    """Refuses options that mean nothing."""
    if a.queue < 0 or a.replicates < 0 or a.smoothing < 0:
        raise UserError("--queue, --replicates and --smoothing must not be negative")
    if a.between and len(split(a.between)) != 2:
        raise UserError(f"--between {a.between}: two columns are needed")
    if Path(a.out).exists() and not Path(a.out).is_dir():
        raise UserError(f"{a.out}: is not a directory")
    twice = [name for name in split(a.annotators) if split(a.annotators).count(name) > 1]
    if twice:
        raise UserError(f"--annotators: {twice[0]!r} is given twice")


def columns(a):
    """Where the labels stand, as the command line says."""
    from jitune.construct.agreement.shapes import Columns

    return Columns(a.item, tuple(split(a.label)), a.annotator, tuple(split(a.annotators)), a.question, a.seconds,
                   a.state, tuple(split(a.between)))


def collect(labels, sheet, only: list[str]) -> None:
    """All labels of these questions, or of all, with a bar."""
    seen = {}
    with reading(labels, "reading") as told:
        for label in labels:
            seen[label.question] = True
            if not only or label.question in only:
                sheet.add(label)
            told()
    if not seen:
        besides = "; read besides: " * bool(labels.notes) + ", ".join(
            f"{n:,} {word.replace('_', ' ')}" for word, n in labels.notes.items())
        raise UserError(f"{', '.join(labels.files)}: no label is in it{besides}")
    known("--questions", only, seen)


def known(option: str, names, questions) -> None:
    """Refuses names of questions that are not there."""
    unknown = [name for name in names if name and name not in questions]
    if unknown:
        raise UserError(f"{option}: no question {unknown[0]!r}; there are {', '.join(questions)}")


@contextmanager
def reading(labels, name: str, *, shown: bool = True):
    """A bar of what is read of files that are large; its value is called after each row."""
    from jitune.evals.progress import Bars

    done, count = 0, 0
    with Bars(shown=shown and labels.total > LARGE) as bars, bars.bar(name, labels.total, size=True) as advance:
        def told() -> None:
            nonlocal done, count
            count += 1
            if count % 1000 == 0:
                advance(labels.read - done)
                done = labels.read

        yield told
        advance(labels.read - done)


def study(a, labels, sheet, **said) -> dict:
    """The results of every question."""
    from jitune.construct.agreement.chosen import study_all

    found, left = study_all(map(sheet.table, sheet.questions()), queue=a.queue, smoothing=a.smoothing,
                            replicates=a.replicates, seed=a.seed, **said)
    return {"files": list(labels.files), "shape": labels.shape.kind, "read": labels.notes,
            "other_texts": dict(labels.other_texts), "not_applied": left, "replicates": a.replicates, "seed": a.seed,
            "questions": found}


def split(text: str) -> list[str]:
    """"a, b" -> ["a", "b"]."""
    return [part.strip() for part in text.split(",") if part.strip()]
