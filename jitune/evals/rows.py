"""Rows of task files, with errors that name file and row.

    for row, where in read(specs):                 # where: "xstest_prompts.csv:3"
        prompt = need(row, "prompt", where)
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jitune.data import sources
from jitune.types import UserError


def read(specs: Sequence[str]) -> Iterator[tuple[dict, str]]:
    """Every row of the files or datasets, with the place where it stands.

    Raises:
      UserError: for what cannot be read, and a row with half of a surrogate pair, which no output file could hold.
    """
    for spec in specs:
        for row, (file, number) in sources.read_rows(str(spec)):
            try:
                json.dumps(row, ensure_ascii=False, default=str).encode()
            except UnicodeEncodeError as error:
                half = error.object[error.start]
                raise UserError(f"{file}:{number}: holds half of a surrogate pair, {half!r}, as of "
                                "an emoji that was cut in two") from None
            yield row, f"{file}:{number}"


def text(spec: str) -> str:
    """The whole of a text file in UTF-8, `.gz` too, for layouts that are no rows."""
    try:
        data = Path(spec).read_bytes()
        data = gzip.decompress(data) if spec.endswith(".gz") else data
        return data.decode("utf-8").removeprefix("\ufeff")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{spec}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def need(row: Any, name: str, where: str, kind: type | tuple[type, ...] = str) -> Any:
    """The field `name` of a row, which must be of `kind`, and not empty where it is a text or a list.

    Raises:
      UserError: beginning with `where`, naming the fields that there are.
    """
    if not isinstance(row, dict) or row.get(name) is None:
        given = ", ".join(map(str, row)) if isinstance(row, dict) else f"no fields, but {row!r:.40}"
        raise UserError(f"{where}: has no field {name!r}; it has {given}")
    value = row[name]
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        words = " or ".join(k.__name__ for k in kinds)
        raise UserError(f"{where}: {name} is {value!r:.40}; {words} is needed")
    if isinstance(value, (str, list, tuple, dict)) and not value:
        raise UserError(f"{where}: {name} is empty")
    return value


def find(folder: str | Path, patterns: Sequence[str]) -> list[str]:
    """The files at any depth of a folder whose names, or last parts of paths, match one of the patterns; sorted."""
    root = Path(folder)
    found = {str(p) for pattern in patterns for p in root.rglob(pattern) if p.is_file()}
    return sorted(found)
