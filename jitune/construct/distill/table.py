"""Methods by name: `load("respond")` is the module that answers prompts; one of your own is any other module.

    load("respond").defaults()      # {"n": 1, "max_tokens": 1024, ...}
    load("my_methods.debate")       # any module with defaults() and run(given), such as debate.py in this folder too

A method is one module and one row here.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from types import ModuleType

from jitune.types import UserError

HERE = "jitune.construct.distill"
METHODS = {
    "respond": f"{HERE}.respond",
    "self_instruct": f"{HERE}.self_instruct",
    "alpaca": f"{HERE}.alpaca",
    "evol_instruct": f"{HERE}.evolve",
    "magpie": f"{HERE}.magpie",
    "backtranslate": f"{HERE}.backtranslate",
}


def is_own(name: str) -> bool:
    """Whether a name may be a module of one's own: a dotted one, or one that is found."""
    return name not in METHODS and ("." in name or name.isidentifier() and importlib.util.find_spec(name) is not None)


def load(name: str) -> ModuleType:
    """The module of a method.

    Raises:
      UserError: there is none of that name (the nearest are named), or it is no method.
    """
    target = METHODS.get(name, name)
    if name not in METHODS and not is_own(name):
        near = difflib.get_close_matches(name, METHODS, 3, 0.4)
        nearest = f"; the nearest are {', '.join(near)}" if near else ""
        raise UserError(f"config.method={name!r} is not known{nearest}; known are {', '.join(METHODS)}, "
                        "and a module of your own")
    try:
        module = importlib.import_module(target)
    except ImportError as error:
        raise UserError(f"config.method: {target} cannot be imported: {error}") from error
    missing = [part for part in ("defaults", "run") if not callable(getattr(module, part, None))]
    if missing:
        raise UserError(f"config.method: {target} has no {missing[0]}(); a method has defaults() and run(given)")
    return module


def section(name: str) -> str:
    """The name of a method's section in the config: that of its row, or the last part of its module."""
    return name.rpartition(".")[2]
