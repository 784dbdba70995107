"""The command `jitune`: quickstart, init, data show, train, generate, export, report; each in `commands/`.

Errors in what was given are one line on standard error and exit code 2; a run that diverged exits with 1, one
that was asked to stop with 143.
"""

from __future__ import annotations

import argparse
import sys

from jitune import __version__
from jitune.commands import data, export, generate, init, quickstart, report, train
from jitune.types import UserError

COMMANDS = (quickstart, init, data, train, generate, export, report)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not getattr(arguments, "takes_config", False):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    arguments.rest = rest
    # Formats given as module:function may lie in the working directory; last, so that they hide no package.
    sys.path += [""] if "" not in sys.path else []
    try:
        return arguments.run(arguments) or 0
    except UserError as error:
        print(f"jitune: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        print(f"jitune: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jitune: interrupted", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="jitune", description="Instruction tuning in JAX, from data to report.")
    parser.add_argument("--version", action="version", version=f"jitune {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
