"""From the instruction of a task file to its check, and what is wrong with it where it has none.

    languages = known()                                      # {"en": ENGLISH, "es": ..., "fr": ..., "ja": ...}
    check = bind(languages, "fr:keywords:existence", {"keywords": ["lune"]})
    check("Au clair de la lune")                             # True
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from jitune.evals.instructions.checks import CHECKS
from jitune.evals.instructions.detect import LANGUAGES
from jitune.evals.instructions.en import ENGLISH
from jitune.evals.instructions.es import SPANISH
from jitune.evals.instructions.fr import FRENCH
from jitune.evals.instructions.ja import JAPANESE
from jitune.evals.instructions.language import Language
from jitune.types import UserError


def known(more: str = "") -> dict[str, Language]:
    """The languages by their codes: those here, and those of import paths `module:NAME` joined by commas.

    Raises:
      UserError: a path cannot be imported, or is no Language.
    """
    languages = {language.code: language for language in (ENGLISH, SPANISH, FRENCH, JAPANESE)}
    for word in filter(None, (w.strip() for w in more.split(","))):
        module, _, name = word.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"language {word}: cannot be imported: {error}; give module:NAME") from error
        if not isinstance(found, Language):
            raise UserError(f"language {word}: is {type(found).__name__}, not a jitune Language")
        languages[found.code] = found
    return languages


def checks_of(language: Language) -> dict[str, Callable[..., bool]]:
    """All checks of a language, by their ids without its code; its own ones win."""
    return {name.replace("{name}", language.name): check for name, check in {**CHECKS, **language.checks}.items()}


def split_id(languages: Mapping[str, Language], instruction: str) -> tuple[Language, str]:
    """The language that an id is of, and the rest of the id; English where it names none."""
    code, _, rest = instruction.partition(":")
    return (languages[code], rest) if code in languages else (languages["en"], instruction)


def bind(languages: Mapping[str, Language], instruction: str, arguments: Mapping[str, Any]) -> Callable[[str], bool]:
    """The check of an instruction with its language and arguments; arguments of None are none.

    Raises:
      UserError: an unknown instruction (the nearest are named), arguments that lack or are too many, a relation or a
        language that does not exist.
    """
    language, name = split_id(languages, instruction)
    checks = checks_of(language)
    if name not in checks:
        ids = {n if code == "en" else f"{code}:{n}" for code in languages for n in checks_of(languages[code])}
        near = difflib.get_close_matches(instruction, sorted(ids), n=3) or sorted(checks)[:3]
        raise UserError(f"there is no instruction {instruction!r}; the nearest are {', '.join(near)}")
    given = {key: value for key, value in arguments.items() if value is not None}
    _check_arguments(instruction, language, checks[name], given)
    if name == "language:response_language":
        given = {"language_code": given["language"]}
    return lambda response: checks[name](response, language, **given)


# An argument that bears the name of the parameter for the language of the instruction.
RENAMED = {"language_code": "language"}


def _check_arguments(
    instruction: str, language: Language, check: Callable[..., bool], given: Mapping[str, Any]
) -> None:
    parameters = [p for p in inspect.signature(check).parameters.values() if p.kind is p.KEYWORD_ONLY]
    allowed = [RENAMED.get(p.name, p.name) for p in parameters]
    lacking = [n for n, p in zip(allowed, parameters, strict=True) if p.default is p.empty and n not in given]
    unknown = [n for n in given if n not in allowed]
    if lacking or unknown:
        raise UserError(f"{instruction} takes {', '.join(allowed) or 'no arguments'}; "
                        f"{'it lacks ' + ', '.join(lacking) if lacking else 'there is no ' + ', '.join(unknown)}")
    for parameter, name in zip(parameters, allowed, strict=True):
        if name in given:
            _check_value(instruction, language, name, given[name], parameter.annotation)


def _check_value(instruction: str, language: Language, name: str, value: Any, annotation: Any) -> None:
    kind = _kind(annotation)
    if kind and (not isinstance(value, kind) or isinstance(value, bool)):
        raise UserError(f"{instruction}: {name} is {value!r:.40}; {kind.__name__} is needed")
    if kind in (list, dict) and not all(isinstance(v, str) for v in (value.values() if kind is dict else value)):
        raise UserError(f"{instruction}: {name} is {value!r:.60}; it holds something else than texts")
    if name.endswith("relation") and value not in language.relations:
        raise UserError(f"{instruction}: {name} is {value!r}; it is one of {', '.join(language.relations)}")
    if name == "language" and value not in LANGUAGES:
        raise UserError(f"{instruction}: language {value!r} cannot be detected; it is one of "
                        f"{' '.join(sorted(LANGUAGES))}")


def _kind(annotation: Any) -> type | None:
    """What JSON gives for an argument of this annotation; None where anything may be."""
    word = re.match(r"\w*", getattr(annotation, "__name__", str(annotation)))[0]
    return {"int": int, "str": str, "Sequence": list, "list": list, "Mapping": dict, "dict": dict}.get(word)
