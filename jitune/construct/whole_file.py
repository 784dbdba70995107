"""A file that is there whole or not at all: bytes in, a file under its name out.

    with whole_file("out/a.jsonl") as file:
        file.write(b"{}\\n")         # in out/a.jsonl.partial, until the block ends
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes its name when the block ends and all of it is on disk.

    A failure or a kill leaves what was there before.
    """
    path = Path(path)
    draft = path.with_name(f"{path.name}.partial")
    try:
        with open(draft, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
