"""jitune data: look at data, judge it, make it better. Each command has a module of its own, `data_<command>.py`."""

from __future__ import annotations

from jitune.commands import (
    data_agreement,
    data_annotate,
    data_convert,
    data_curate,
    data_distill,
    data_show,
    data_teacher,
)

COMMANDS = (
    data_agreement,
    data_annotate,
    data_convert,
    data_curate,
    data_distill,
    data_show,
    data_teacher,
)


def add(commands) -> None:
    """jitune data"""
    data = commands.add_parser("data", help="show, convert, annotate, curate and distill data")
    data = data.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(data)
