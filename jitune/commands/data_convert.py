"""jitune data convert: any data to records, as JSONL or Parquet."""

from __future__ import annotations

EXAMPLES = """\
  jitune data convert hh_rlhf.jsonl.gz --out hh.parquet --license MIT \\
    --bad skip
  jitune data convert alpaca.json dolly.jsonl --out all.jsonl \\
    --fields instruction=question,output=answer
  jitune data convert --schema
"""


def add(commands) -> None:
    """jitune data convert"""
    import argparse

    p = commands.add_parser("convert", help="turn any data into records with their provenance, as JSONL or Parquet",
                            epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("sources", metavar="FILE", nargs="*", help="files, folders or hub names; commas may join them")
    p.add_argument("--out", metavar="OUT", help="a file that ends in .jsonl or .parquet; what cannot be used is "
                   "listed in OUT.bad, and a run that was killed goes on")  # fmt: skip
    p.add_argument("--format", default="auto", help="auto, a name such as alpaca, pairs, oasst, label_studio, or "
                   "module:function")  # fmt: skip
    p.add_argument("--fields", default="", help="instruction=question,output=answer")
    p.add_argument("--options", default="", metavar="NAME=VALUE,...", help="of the format, such as what trees become")
    p.add_argument("--license", default="", help="of every record, as SPDX names it; what the rows say by default")
    p.add_argument("--method", default="", help="how the data was made: annotation, distillation, self_improvement")
    p.add_argument("--bad", default="stop", choices=("stop", "skip"),
                   help="what to do with rows that cannot be used, and those with the id of another record")
    p.add_argument("--restart", action="store_true", help="begin anew: OUT and what an earlier run left is removed")
    p.add_argument("--schema", action="store_true", help="print the JSON Schema of records, and nothing else")
    p.set_defaults(run=run)


def run(a) -> int:
    """Converts."""
    import sys

    from jitune.types import UserError

    if a.schema:
        import json

        from jitune.data.record_schema import json_schema

        print(json.dumps(json_schema(), indent=2))
        return 0
    if not a.sources or not a.out:
        raise UserError("data convert: name the files to read, and the file to write with --out")
    try:
        _convert(a)
    except KeyboardInterrupt:
        print("jitune: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _convert(a) -> None:
    from jitune.construct.convert import convert
    from jitune.data.sources import split_specs
    from jitune.evals.pages.shown import numbered
    from jitune.evals.progress import Bars

    specs = [spec for source in a.sources for spec in split_specs(source)]
    with Bars(shown=True) as bars:
        done = convert(specs, a.out, format=a.format, fields=a.fields, license=a.license, method=a.method,
                       options=a.options, bad=a.bad, restart=a.restart,
                       progress=lambda name, total: bars.bar(name, total, size=True))
    print(f"{a.out}: {numbered(done.kept, 'record')}{' from an earlier run' if done.already else ''}")
    if done.rejected:
        count = sum(done.rejected.values())
        print(f"{done.rejects}: {numbered(count, 'row')} left out: {_counts(done.rejected)}")
    if done.notes:
        print(f"noted: {_counts(done.notes)}")


def _counts(found: dict) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(found.items(), key=lambda one: -one[1]))
