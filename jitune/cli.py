"""The command `jitune`: quickstart, init, data (show, convert, annotate, agreement, curate, distill, teacher), plan,
train, generate, eval, judge, export, improve, serve, report.

Each lies in `commands/`.

Errors in what was given are one line on standard error and exit code 2; a disk or device that is full, and a run
that diverged, exit with 1; a run that was asked to stop with 143.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings

from jitune import __version__, cpu_threads, failures
from jitune.commands import data, eval, export, generate, improve, init, judge, plan, quickstart, report, serve, train
from jitune.types import FallsBack, UserError

COMMANDS = (quickstart, init, data, plan, train, generate, eval, judge, export, improve, serve, report)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    open_streams()
    cpu_threads.make_enough()
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not getattr(arguments, "takes_config", False):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    arguments.rest = rest
    # Formats given as module:function may lie in the working directory; last, so that they hide no package.
    sys.path += [""] if "" not in sys.path else []
    try:
        code = arguments.run(arguments) or 0
        sys.stdout.flush()  # or a pipe that is closed would be found out at exit, where nothing catches it
        return code
    except UserError as error:
        print(f"jitune: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a program that SIGPIPE ends
    except KeyboardInterrupt:
        print("jitune: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        explained = failures.explain(error, arguments.run.__module__.rpartition(".")[2])
        if explained is None:
            raise
        print(f"jitune: {explained[0]}", file=sys.stderr)
        return explained[1]


def run() -> None:
    """Runs the command of this process and ends it.

    After a failure the threads that were writing are not waited for: each would add a traceback of its own.
    """
    sys.unraisablehook = failures.report
    say_warnings()
    code = main()
    if code == 1:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def say_warnings() -> None:
    """Prints each `FallsBack` once, as one line on the standard error; other warnings stay as they are."""
    form, said = warnings.formatwarning, set()

    def say(message, category, *rest, **more) -> str:
        if not issubclass(category, FallsBack):
            return form(message, category, *rest, **more)
        line = "" if str(message) in said else f"jitune: {message}\n"
        said.add(str(message))
        return line

    warnings.formatwarning = say
    warnings.simplefilter("always", FallsBack)  # Python's own "once" begins anew wherever filters change


def open_streams() -> None:
    """Gives the process the streams that it was started without (`<&-`, `>&-`)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="jitune", description="Instruction tuning in JAX, from data to report.")
    parser.add_argument("--version", action="version", version=f"jitune {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
