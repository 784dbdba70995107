"""A training run's configuration: every option with its default, read from Python files, checked once.

A config file has `get_config() -> ConfigDict` and starts from `defaults()`; the command line overrides
single values, `--config.optimizer.learning_rate=2e-5`. The resolved config is saved with the run.
Other commands read theirs the same way, from defaults of their own.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable

from ml_collections import ConfigDict, config_dict

from jitune import recipes
from jitune.options import CHOICES, POSITIVE, defaults
from jitune.options import check_objective as _check_objective
from jitune.types import UserError


def _as_they_are(config: ConfigDict) -> None:
    """Training has the same options whatever their values."""


def read(name: str, *, make: Callable[[], ConfigDict] = defaults, command: str = "train",
         widen: Callable[[ConfigDict], None] = _as_they_are) -> ConfigDict:
    """Runs a config file, given by its path or as the name of a recipe (see `recipes`).

    Args:
      make: gives every option with its default; the result is that with what the file's `get_config()` sets.
      command: whose config it must be.
      widen: adds the options that the values of others ask for.

    Raises UserError if it fails.
    """
    path = recipes.find(name, command)
    try:
        config = runpy.run_path(str(path))["get_config"]()
    except KeyError as error:
        reason = "has no get_config()" if error.args == ("get_config",) else str(error.args[0])
        raise UserError(f"{path}: {reason}") from error
    except UserError:
        raise
    except Exception as error:  # whatever the user's file raises
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error
    whole = make()
    known = _paths(whole)
    try:
        whole.update({name: config[name] for name in config if name in known})
        widen(whole)
        unknown = _paths(config) - _paths(whole)
        if unknown:
            raise UserError(f"{path}: {_no_such_option(sorted(unknown)[0], _paths(whole))}")
        whole.update(config)
    except TypeError as error:
        raise UserError(f"{path}: a value has the wrong type: {error}") from None
    return whole


def from_words(file: str | None, words: list[str], *, make: Callable[[], ConfigDict] = defaults,
               command: str = "train", widen: Callable[[ConfigDict], None] = _as_they_are) -> ConfigDict:
    """The config file or recipe (None: `make()`) with `--config.NAME=VALUE` and `--config.NAME VALUE` applied.

    Raises UserError as `read` and `override` do, and for words that are no option.
    """
    config = read(file, make=make, command=command, widen=widen) if file else make()
    rest = iter(words)
    for word in rest:
        if not word.startswith("--config."):
            raise UserError(f"{word}: unknown argument; options are given as --config.NAME=VALUE")
        name, equals, value = word.removeprefix("--config.").partition("=")
        if not equals:
            value = next(rest, None)
            if value is None:
                raise UserError(f"{word}: a value is needed")
        override(config, name, value)
        widen(config)
    return config


def override(config: ConfigDict, name: str, text: str) -> None:
    """Sets one option from its text on the command line; the type is that of the value it replaces.

    Raises UserError for an option that does not exist (naming the nearest) or a value of another type.
    """
    known = _paths(config)
    if name not in known:
        raise UserError(_no_such_option(name, known))
    parent, _, key = name.rpartition(".")
    node = config
    for part in parent.split(".") if parent else ():
        node = node[part]
    node[key] = _parse(name, text, node[key])


def _parse(name: str, text: str, old):
    kind = type(old)
    try:
        if old is None:
            return _guessed(text)
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        raise UserError(f"--config.{name}={text}: a value of type {kind.__name__} is needed, such as {old!r}") from None


def _guessed(text: str) -> int | float | str | None:
    """A value in place of None, which says nothing of its type."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None if text.lower() in ("", "none") else text


def _no_such_option(name: str, known: set[str]) -> str:
    import difflib

    known = sorted(known)
    tails = {k.rpartition(".")[2]: k for k in known}
    near = difflib.get_close_matches(name, known, 3, 0.5)
    near += [tails[t] for t in difflib.get_close_matches(name.rpartition(".")[2], tails, 2, 0.7)]
    near = list(dict.fromkeys(near))[:3]
    return f"there is no option config.{name}" + (f"; the nearest are {', '.join(near)}" if near else "")


def _paths(config: ConfigDict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in config.items():
        found |= _paths(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else {prefix + key}
    return found


def check(config: ConfigDict, *, needed=("model.path", "data.train", "output_dir")) -> None:
    """Refuses values that cannot work, before anything is loaded. Raises UserError.

    needed: options without which a run cannot be; planning one asks for none of them.
    """
    flat = flatten(config)
    check_values(flat, needed=needed)
    if flat["steps"] < 0 or (flat["steps"] == 0 and flat["epochs"] <= 0):
        raise UserError("config.steps or config.epochs must be positive")
    if flat["batch_size"] % flat["microbatches"]:
        raise UserError(f"config.batch_size={flat['batch_size']} does not divide by "
                        f"config.microbatches={flat['microbatches']}")
    if (flat["patience"] or flat["export"] == "best") and not (flat["data.eval"] and flat["eval_every"]):
        raise UserError("config.patience and config.export=best need config.data.eval and config.eval_every")
    _check_objective(flat)


def check_values(flat: dict, *, needed=()) -> None:
    """Refuses single options that cannot work, whatever the others are; as `check`, of what `flatten` gives."""
    for name in needed:
        if not flat[name]:
            raise UserError(f"config.{name} is not set; give it in the config file or as --config.{name}=...")
    for name, allowed in CHOICES.items():
        if flat[name] not in allowed:
            raise UserError(f"config.{name}={flat[name]!r} is not known; known are {', '.join(allowed)}")
    for name in POSITIVE:
        if flat[name] < 1:
            raise UserError(f"config.{name}={flat[name]} must be at least 1")


def flatten(config: ConfigDict) -> dict:
    """{"data.train": ..., ...}."""
    return {name: _get(config, name) for name in sorted(_paths(config))}


def _get(config, name):
    for part in name.split("."):
        config = config[part]
    return config


def to_json(config: ConfigDict) -> str:
    """The resolved config as indented JSON."""
    return json.dumps(config.to_dict(), indent=2)


def from_json(text: str) -> ConfigDict:
    """The inverse of `to_json`, with options added since then at their defaults."""
    config = defaults()
    config.update(config_dict.ConfigDict(json.loads(text)))
    return config
