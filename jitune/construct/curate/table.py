"""Stages by name: `build(Spec("length", STAGES["length"], {"min_words": 5})) -> Filter`.

    parse("empty, short=length, mine=my_stages:shouting")
    # [("empty", "jitune...filters.empty:build"), ("short", "...length:build"), ("mine", "my_stages:shouting")]

A builder is a function of plain options, each with a default, that returns a `Stage`. Its signature is the one place
where options and defaults are written; configs take them from there. One that takes `**options` tells them, with
defaults, in its attribute `extra`; one that reads files which no option names tells them in its attribute `reads`. A
stage of one's own is `name=module:function`, or `module:function`, which is named as the function is; `other=length`
runs a stage once more under another name, with options of its own.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from jitune.construct.curate.stage import Choice, Filter, Sieve, Stage
from jitune.types import UserError

HERE = "jitune.construct.curate"
STAGES = {
    "empty": f"{HERE}.filters.empty:build",
    "length": f"{HERE}.filters.length:build",
    "encoding": f"{HERE}.filters.encoding:build",
    "repetition": f"{HERE}.filters.repetition:build",
    "artifacts": f"{HERE}.filters.artifacts:build",
    "language": f"{HERE}.filters.language:build",
    "refusal": f"{HERE}.filters.refusal:build",
    "boilerplate": f"{HERE}.filters.boilerplate:build",
    "hallucinated_input": f"{HERE}.filters.hallucinated_input:build",
    "pii": f"{HERE}.filters.pii:build",
    "exact": f"{HERE}.exact:build",
    "minhash": f"{HERE}.minhash:build",
    "decontaminate": f"{HERE}.decontaminate:build",
    "embedding_duplicates": f"{HERE}.near:build",
    "ifd": f"{HERE}.scores.ifd:build",
    "ifd_ppl": f"{HERE}.scores.ifd:build_ppl",
    "deita": f"{HERE}.scores.deita:build",
    "perplexity": f"{HERE}.scores.perplexity:build",
    "score": f"{HERE}.scores.own:build",
    "diversity": f"{HERE}.diversity:build",
    "mix": f"{HERE}.mix:build",
}
TAKEN = ("ids", "read")  # what the runner does of itself


class Spec(NamedTuple):
    """A stage before it is built: its name in a run, `module:function`, and options."""

    name: str
    target: str
    options: dict


def parse(stages: str) -> list[tuple[str, str]]:
    """(name, target) of each stage, in order.

    Raises:
      UserError: an unknown name (the nearest are named), or the same name twice.
    """
    found = []
    for word in filter(None, (word.strip() for word in stages.split(","))):
        name, equals, target = word.partition("=")
        if not equals:
            name, target = (word.rpartition(":")[2], word) if ":" in word else (word, word)
        target = STAGES.get(target, target)
        if ":" not in target:
            near = difflib.get_close_matches(word, STAGES, 3, 0.4)
            raise UserError(f"config.stages: there is no stage '{word}'"
                            + (f"; the nearest are {', '.join(near)}" if near else "")
                            + f"; known are {', '.join(STAGES)}, and module:function of your own")
        if not name.isidentifier() or name in TAKEN or STAGES.get(name, target) != target:
            raise UserError(f"config.stages: '{name}' cannot name {target}; give it another name as other={target}")
        if name in dict(found):
            raise UserError(f"config.stages: two stages are named '{name}'; give one of them as other={target}")
        found.append((name, target))
    return found


def builder(target: str) -> Callable[..., Stage]:
    """The function that `module:function` names. Raises UserError where there is none."""
    module, _, function = target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"config.stages: {target} cannot be imported: {error}") from error


def options(target: str) -> dict[str, Any]:
    """Every option of a builder with its default: numbers, booleans, texts and None; a tuple is a text with commas.

    An option without a default is "" until it is given.
    """
    return {name: ",".join(map(str, default)) if isinstance(default, (tuple, list)) else
            "" if default is inspect.Parameter.empty else default
            for name, default in _defaults(builder(target)).items()}


def _defaults(make: Callable[..., Stage]) -> dict[str, Any]:
    """The options of a builder as it has them; `Parameter.empty` where there is no default."""
    found = {name: p.default for name, p in inspect.signature(make).parameters.items()
             if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return found | dict(getattr(make, "extra", {}))


def build(spec: Spec) -> Stage:
    """Builds one stage. Raises UserError for options that its builder refuses."""
    make = builder(spec.target)
    defaults = _defaults(make)
    given = {name: _as_asked(value, defaults.get(name, value)) for name, value in spec.options.items()}
    missing = [name for name, default in defaults.items()
               if default is inspect.Parameter.empty and given.get(name) in ("", None)]
    if missing:
        raise UserError(f"config.{spec.name}.{missing[0]} is not set; the stage {spec.name} needs it")
    # What is as it would be anyway is left out: a preset of a stage goes before defaults, not before what is given.
    given = {name: value for name, value in given.items() if name not in defaults or value != defaults[name]}
    try:
        stage = make(**given)
    except UserError as error:
        raise UserError(f"config.{spec.name}: {error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"config.{spec.name}: {spec.target} refuses its options: {error}") from error
    if not isinstance(stage, (Filter, Sieve, Choice)):
        raise UserError(f"config.stages: {spec.target} gave {type(stage).__name__}, not a Filter, Sieve or Choice")
    return stage


def _as_asked(value: Any, default: Any) -> Any:
    """A value of the config in the builder's type."""
    if isinstance(default, (tuple, list)) and isinstance(value, str):
        kind = type(default[0]) if default else str
        return tuple(kind(word.strip()) for word in value.split(",") if word.strip())
    return value
