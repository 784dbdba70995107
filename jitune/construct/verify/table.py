"""Verifiers by name, those of jitune and one's own.

    with open_verifier("math", language="de") as verify:   # or "my_checks:verify"
        verify(record, "... so it is 7.")                  # Checked(True), Checked(False, "7, not 8")
        verify.check_all([(record, text), ...])            # verdicts in order, several at a time where that helps

One of one's own is a function `(record, text) -> Checked`, or a bool; it runs in processes of its own with a time
limit, so that one that raises, hangs or dies gives `Checked(None, reason)`. Options go to it by name.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from jitune.construct.verify.guard import Apart, Guarded, Here
from jitune.types import UserError

HERE = "jitune.construct.verify"
# A builder of plain options returns a Verifier; its signature is where options and defaults are written.
VERIFIERS = {
    "math": f"{HERE}.math:build",
    "code": f"{HERE}.code:build",
    "constraints": f"{HERE}.constraints:build",
    "exact": f"{HERE}.exact:build",
}
# What reads the answer of a text, as a majority vote needs it.
PARSERS = {"math": f"{HERE}.math:parser", "exact": f"{HERE}.exact:parser"}
# Options of the guard: seconds of a verdict, how many at a time.
GUARD = {"time_limit": 10.0, "workers": 2}


def defaults() -> dict[str, Any]:
    """The options of every verifier by its name, and those of the guard; a section of a config."""
    return {**GUARD, **{name: options(name) for name in VERIFIERS}}


def options(name: str) -> dict[str, Any]:
    """The options of a verifier with their defaults."""
    return {key: p.default for key, p in inspect.signature(_builder(name)).parameters.items()}


def open_verifier(name: str, *, time_limit: float = GUARD["time_limit"], workers: int = GUARD["workers"],
                  **options: Any) -> Guarded:  # fmt: skip
    """A guarded verifier: call it, or its `check_all`; `close` it, or use it in `with`.

    Args:
      name: one of `VERIFIERS`, or `module:function`.
      time_limit: seconds that one verdict may take, where it is given in another process.
      workers: how many verdicts are given at a time, where they are given in other processes.
      options: of the verifier.

    Raises:
      UserError: an unknown name (the nearest are named), an option that it does not have, a function that cannot be
        imported.
    """
    if not (isinstance(time_limit, (int, float)) and time_limit > 0 and isinstance(workers, int) and workers > 0):
        raise UserError(f"verifier: time_limit={time_limit!r}, workers={workers!r}; both are above 0")
    if ":" in name:
        return Apart(name, options, seconds=float(time_limit), workers=workers)
    verify = _made(_builder(name), name, options)
    if getattr(verify, "apart", False):  # a pattern of the user's may take for ever
        return Apart(VERIFIERS[name], options, seconds=float(time_limit), workers=workers, build=True)
    return Here(verify, workers=workers if getattr(verify, "waits", False) else 1)


def open_parser(name: str, **options: Any) -> Callable[[str], str | None]:
    """What reads the answer of a text in a form that can be compared, or None; the verifier's own parser.

    name: `math`, `exact`, or `module:function` of one's own, `(text) -> str | None`, of which what raises is None.
    Raises UserError for others.
    """
    if ":" in name:
        return _own_parser(name, options)
    if name not in PARSERS:
        raise UserError(f"verifier {name!r} reads no answers that could be counted; {', '.join(PARSERS)} do, and "
                        "module:function of your own, from a text to a text or None")
    make = _load(PARSERS[name])
    known = set(inspect.signature(make).parameters)
    return _made(make, name, {key: value for key, value in options.items() if key in known})


def _own_parser(name: str, options: dict[str, Any]) -> Callable[[str], str | None]:
    function = _load(name)
    try:
        inspect.signature(function).bind("", **options)
    except TypeError as error:
        raise UserError(f"verifier {name}: cannot read answers to be counted, which takes a text alone: {error}") \
            from error
    except ValueError:
        pass  # some of those in C do not say what they take

    def read(text: str) -> str | None:
        try:
            found = function(text, **options)
        except Exception:
            return None
        return None if found is None else str(found)

    return read


def _builder(name: str) -> Callable[..., Any]:
    if name not in VERIFIERS:
        near = difflib.get_close_matches(name, VERIFIERS, 1, 0.4)
        raise UserError(f"there is no verifier {name!r}{f'; the nearest is {near[0]}' if near else ''}; known are "
                        f"{', '.join(VERIFIERS)}, and module:function of your own")
    return _load(VERIFIERS[name])


def _made(make: Callable[..., Any], name: str, options: dict[str, Any]) -> Any:
    known = list(inspect.signature(make).parameters)
    unknown = [key for key in options if key not in known]
    if unknown:
        raise UserError(f"verifier {name} has no option {unknown[0]!r}; it has {', '.join(known)}")
    try:
        return make(**options)
    except UserError as error:
        raise UserError(f"verifier {name}: {error}") from error


def _load(path: str) -> Callable[..., Any]:
    module, _, function = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"verifier {path}: cannot be imported: {error}") from error
    if not callable(found):
        raise UserError(f"verifier {path}: is no function")
    return found
