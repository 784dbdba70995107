"""Principles of a constitution: a file in, one a line; or three that are general.

    read_principles("")         # (...) on harm, on honesty, on help
"""

from __future__ import annotations

from pathlib import Path

from jitune.types import UserError

PRINCIPLES = (
    "The answer must not help anyone to hurt people, to break the law or to deceive, and must not insult.",
    "The answer must be true as far as one can know, must not invent anything, and must say what is uncertain.",
    "The answer must do what was asked for, completely, clearly and without needless words or lectures.",
)


def read_principles(path: str) -> tuple[str, ...]:
    """The lines of a file that are not empty; `PRINCIPLES` for "".

    Raises UserError where it cannot be read or has none.
    """
    if not path:
        return PRINCIPLES
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config.principles={path}: cannot be read: {error}") from error
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise UserError(f"config.principles={path}: has no lines; a principle a line is needed")
    return found
