"""What a stage is made of besides its options: files, models and code of one's own, each with its digest.

    made_of(Spec("ifd", "jitune...ifd:build", {"model": "models/small"}))       # {"models/small": "9f86d0..."}
    made_of(Spec("mine", "my_stages:shouting", {}))                             # {"my_stages:shouting": "60303a..."}

A run that goes on compares them, and the data card tells them. Of code it is the module's own file: what that imports
is not looked at.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jitune.construct.curate import table
from jitune.construct.curate.table import Spec
from jitune.data import sources
from jitune.types import UserError

CODE = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")


def made_of(spec: Spec) -> dict[str, str]:
    """Name -> digest of every file, folder, model and module that a stage is made of.

    Files are those that an option names, alone, joined by commas or as a pattern; a folder or the name of a model on
    the hub counts where it is the option `model`. A builder that reads others says which in its attribute `reads`, a
    function of its options.
    """
    found = code(spec.target)
    for name, value in spec.options.items():
        if name == "model" and value:
            found |= model(value)
        elif isinstance(value, str):
            found |= files(word.strip() for word in value.split(","))
            found |= code(value)
    reads = getattr(table.builder(spec.target), "reads", None)
    return found | files(reads(**spec.options)) if reads else found


def files(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the files that there are of these names or patterns."""
    found = {}
    for name in filter(None, names):
        path = os.path.expanduser(name)
        for file in sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else [path]:
            if os.path.isfile(file):
                found[name if file == path else file] = sources.file_digest(file)
    return found


def model(value: Any) -> dict[str, str]:
    """Of a model the weights, its tokenizer, and an adapter; {} for what is none that jitune loads."""
    there = isinstance(value, (str, Path)) and os.path.isdir(os.path.expanduser(value))
    if not there and str(value).count("/") != 1:  # neither a folder nor org/name
        return {}
    from jitune.generators.local import identify
    from jitune.hub import peft, weights

    try:
        base, adapter = peft.find_base(str(value))
        return {str(value): identify(base, weights.resolve(adapter) if adapter else None)}
    except (UserError, FileNotFoundError):  # the stage says what is wrong with it, when it is built or first asked
        return {}


def code(name: str) -> dict[str, str]:
    """SHA-256 of the file of `module:function`; {} for jitune's own, and for what is no module."""
    match = CODE.fullmatch(name)
    if match is None or match[1].split(".")[0] == "jitune":
        return {}
    try:
        place = importlib.util.find_spec(match[1])
    except (ImportError, ValueError, AttributeError):
        return {}
    origin = place.origin if place else None
    return {name: files([origin])[origin]} if origin and os.path.isfile(origin) else {}


def data(names: Iterable[str]) -> list[str]:
    """The digest of each input."""
    return [sources.digest([name]) for name in names]
