"""Lists of texts that an option names: a file, or the texts themselves.

    listed("Answer briefly. | Answer as a teacher would.")     # two texts
    listed("personas.jsonl", key="persona")                    # a text of each row; of a .txt file of each line
    words(r"\\n\\n,16.")                                        # ("\\n\\n", "16."): texts that end an answer
"""

from __future__ import annotations

import json
import os

from jitune.types import UserError

ENDINGS = (".txt", ".jsonl", ".json")


def file_of(given: str) -> str:
    """The file that an option names, or "" where it holds the texts themselves."""
    path = os.path.expanduser(given.strip())
    return path if path.endswith(ENDINGS) or os.path.isfile(path) else ""


def listed(given: str, *, key: str, option: str) -> list[str]:
    """The texts, in order, each once.

    Args:
      given: a file of lines (.txt), of rows with `key` or of texts (.jsonl, .json); or texts with "|" between them.

    Raises:
      UserError: the file is not there, or a row has no such text; or there is none at all.
    """
    path = file_of(given)
    try:
        found = _of_file(path, key) if path else given.split("|")
    except FileNotFoundError as error:
        raise UserError(f"{option}={given}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option}={given}: cannot be read: {error}") from error
    found = list(dict.fromkeys(filter(None, (text.strip() for text in found))))
    if given.strip() and not found:
        raise UserError(f"{option}={given}: holds no text")
    return found


def _of_file(path: str, key: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        if path.endswith(".jsonl"):
            return [_text(line, key, f"{path}:{n}") for n, line in enumerate(file, 1) if line.strip()]
        if path.endswith(".json"):
            rows = _parsed(file.read(), path)
            if not isinstance(rows, list):
                raise UserError(f"{path}: is no list")
            return [_text(json.dumps(row), key, f"{path}:{n}") for n, row in enumerate(rows, 1)]
        return file.read().splitlines()


def _text(line: str, key: str, where: str) -> str:
    row = _parsed(line, where)
    text = row.get(key) if isinstance(row, dict) else row
    if not isinstance(text, str):
        raise UserError(f"{where}: has no text under {key!r}")
    return text


def _parsed(text: str, where: str):
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: is not valid JSON: {error}") from error


def words(given: str) -> tuple[str, ...]:
    """Texts with commas between them; a backslash and n is a line break."""
    return tuple(word.replace("\\n", "\n") for word in given.split(",") if word)
