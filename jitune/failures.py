"""What went wrong, in one line: `explain(error)` where it has an everyday cause, None where it is a bug.

    jitune: no space left on the device (runs/a/metrics.jsonl); what was saved before is whole, --resume continues it
"""

from __future__ import annotations

import errno
import os
import re
import sys

FULL = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "a file would be larger than is allowed here"}
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
# Rust and C++ libraries (safetensors, tokenizers, tensorstore) put the number of an OSError into their text.
OS_ERROR = re.compile(r"\bos[ _]error(?:_code)?[:=]?\s*'?(\d+)", re.IGNORECASE)
PLACE = re.compile(r"""["'](/[^"']+)["']""")
SAVED = "what was saved before is whole, and --resume continues it"
WRITTEN = "what was written before is whole, and the same command goes on from there"
GOES_ON = ("data_convert", "data_curate", "data_annotate")  # commands that append to files and take them up again
SMALLER = {
    "train": "raise config.microbatches, set config.model.remat=full, or lower config.seq_len or config.batch_size; "
             "`jitune plan` says what fits",
    "generate": "lower --batch_size or --max_new_tokens, or use --dtype bfloat16",
}


def explain(error: BaseException, command: str = "") -> tuple[str, int] | None:
    """(one line, exit code) for a disk or a device that is full, and for files that cannot be read or written.

    command: the first word on the command line. The whole chain of causes is looked at.
    """
    chain, seen = [], error
    while seen is not None and seen not in chain:
        chain.append(seen)
        seen = seen.__cause__ or seen.__context__
    for one in chain:
        number, place = _os_error(one)
        if number in FULL:
            after = f"; {SAVED}" if command == "train" else f"; {WRITTEN}" if command in GOES_ON else ""
            return f"{FULL[number]}{f' ({place})' if place else ''}{after}", 1
        if number in DENIED or (number and place):
            return f"{place or 'a file'}: {os.strerror(number)}", 2
    for one in chain:
        if type(one).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and "RESOURCE_EXHAUSTED" in str(one):
            return f"out of memory on the devices ({_first_clause(str(one))}); " + SMALLER.get(
                command, "use a smaller model or more devices"), 1
        if isinstance(one, MemoryError):
            return "out of memory on this machine", 1
    return None


def report(ignored) -> None:
    """In place of sys.unraisablehook: tensorstore's threads say that Orbax has given up a write that failed, which
    the error that is raised says too."""
    if "Event loop is closed" not in str(ignored.exc_value):
        sys.__unraisablehook__(ignored)


def _os_error(error: BaseException) -> tuple[int | None, str | None]:
    """(errno, file), either None where it is not known."""
    if isinstance(error, OSError) and error.errno:
        return error.errno, os.fspath(error.filename) if isinstance(error.filename, (str, os.PathLike)) else None
    found, place = OS_ERROR.search(str(error)), PLACE.search(str(error))
    return (int(found[1]), place[1] if place else None) if found else (None, None)


def _first_clause(text: str) -> str:
    """What a message of XLA begins with, without its code."""
    return " ".join(text.split()).partition("RESOURCE_EXHAUSTED:")[2].strip().split(". ")[0][:160].rstrip(".") or "XLA"
