"""The generator that a section of a config describes.

    section = defaults() | {"model": "models/teacher", "batch_size": 16}
    generator = open_generator(section, cache="out/answers.jsonl")
    generator.answer([Call((("user", "Name a prime."),), max_tokens=16)])

A model of one's own is a directory, an adapter or a hub name; a model behind an endpoint has a `base_url`; a recording
is the cache file of an earlier run, in `replay`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jitune.generators import call as calls_
from jitune.generators.cached import Cached
from jitune.generators.call import Generator
from jitune.generators.purse import Purse
from jitune.types import Pretrained, UserError

KEY_ENV = "OPENAI_API_KEY"
FORBIDDEN = {"messages", "prompt", "model", "stream", "n"}  # parameters that would change what a reply is


def defaults() -> dict[str, Any]:
    """Every option of a generator."""
    return {
        "model": "",  # a directory, an adapter, a hub name; of an endpoint its name, or MODEL@https://host/v1
        "adapter": "",  # of a model of one's own, applied to it
        "base_url": "",  # an endpoint that speaks OpenAI's protocol, as in https://host/v1
        "api": "chat",  # of an endpoint: chat | completion (which continues plain texts)
        "key_env": KEY_ENV,  # the environment variable that holds its key
        "parameters": "",  # JSON, added to every request; null takes one out: {"temperature": null}
        "prices": "",  # "2.5,10": of a million tokens of input and of output
        "budget": 0.0,  # what may be spent, with what the cache has cost; 0: no cap
        "token_budget": 0,  # tokens in and out, with those of the cache; 0: no cap
        "concurrency": 8,  # calls at a time
        "timeout": 120.0,  # seconds for a call
        "tries": 6,  # calls of one question at most
        "batch_size": 8,  # answers at a time of a model of one's own
        "dtype": "float32",
        "max_length": 0,  # tokens of prompt and answer; 0: the model's context, at most 8192
        "chat_template": "",  # a jinja file, chatml | alpaca, none (plain); "": the model's own
        "mesh": {"data": 1, "fsdp": -1, "tensor": 1},
        "kv_cache": "",  # int8: keys and values in 8 bits, which takes a quarter or half of the memory
        "replay": "",  # a cache file that is played back, in place of a model
        "replay_missing": "error",  # of a call that is not in it: error | lost
    }


def open_generator(section: Mapping[str, Any], *, cache: str | Path | None = None,
                   pretrained: Pretrained | None = None, digest: str = "", say: Callable[[str], None] | None = None,
                   **calling: Any) -> Generator:
    """The generator of a section; options that are not in it have their defaults.

    Args:
      section: as `defaults()` has it, or a ConfigDict.
      cache: the file that answers are kept in; None: in memory only.
      pretrained: a model in memory, in place of one that is loaded. digest: tells its weights apart; it is needed then.
      say: told how many answers are kept, a line of progress every ten seconds, and what an interrupt waits for.
      calling: sleep and chance of `endpoint.Endpoint`, for tests.

    Raises:
      UserError: for an option that does not exist, is missing or cannot be.
    """
    section = complete(section)
    if section["replay"]:
        from jitune.generators.replay import open_recorded

        return open_recorded(section["replay"], model=section["model"], missing=section["replay_missing"])
    purse = Purse(read_prices(section["prices"]), section["budget"] or None, tokens=section["token_budget"])
    model, base_url = split_spec(section["model"], section["base_url"])
    if pretrained is not None:
        source = _in_memory(section, pretrained, digest)
    elif base_url:
        source, purse.longest = _remote(section, model, base_url, say, calling)
    elif model:
        source = _load(section)
    else:
        raise UserError("generator: names no model; give a directory, MODEL@https://host/v1, or a recording (replay)")
    generator = Cached(source, cache=cache, purse=purse, say=say)
    if say and generator.held:
        say(f"{cache}: {generator.held:,} answers are kept")
    return generator


def complete(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section with what it leaves out. Raises UserError for an option that does not exist."""
    given = section.to_dict() if hasattr(section, "to_dict") else dict(section)
    unknown = sorted(set(given) - set(defaults()))
    if unknown:
        raise UserError(f"generator: there is no option {unknown[0]!r}; there are {', '.join(defaults())}")
    found = {**defaults(), **given}
    if found["api"] not in ("chat", "completion"):
        raise UserError(f"generator: api={found['api']!r} is not one of chat, completion")
    if found["kv_cache"] not in ("", "int8"):
        raise UserError(f"generator: kv_cache={found['kv_cache']!r} is not one of '', int8")
    for name, least in (("batch_size", 1), ("max_length", 0)):
        if found[name] < least:
            raise UserError(f"generator: {name}={found[name]} must be at least {least}")
    return found


def split_spec(spec: str, base_url: str = "", *, what: str = "generator: model", other: str = "a base_url"
               ) -> tuple[str, str]:
    """(model, base URL) of `MODEL@https://host/v1`; of a directory's or a model's name (name, base_url)."""
    model, at, url = spec.partition("@")
    if at and url.startswith(("http://", "https://")):
        if base_url:
            raise UserError(f"{what} {spec.partition('?')[0]}: names its endpoint; {other} must not be given")
        return model, url
    if at and "://" in url:
        raise UserError(f"{what}: MODEL@http://HOST/v1 or MODEL@https://HOST/v1 is needed")
    return spec, base_url


def read_prices(text: Any, *, what: str = "generator: prices") -> tuple[float, float] | None:
    """"2.5,10" -> (2.5, 10.0); None for nothing; two numbers as they are."""
    if not text:
        return None
    try:
        first, second = map(float, text.split(",") if isinstance(text, str) else text)
    except (TypeError, ValueError):
        raise UserError(f"{what} {text}: two numbers are needed, IN,OUT, as in 2.5,10") from None
    return first, second


def read_parameters(text: Any, *, what: str = "generator: parameters") -> dict:
    """A JSON object, or a dict as it is; {} for nothing."""
    try:
        found = json.loads(text or "{}") if isinstance(text, str) else dict(text or {})
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}: is no JSON: {error}") from None
    if not isinstance(found, dict) or FORBIDDEN & set(found):
        raise UserError(f"{what}: an object is needed, without {', '.join(sorted(FORBIDDEN))}")
    return found


def _remote(section: dict, model: str, base_url: str, say, calling: Mapping[str, Any]):
    """(the endpoint of a section, how long its answers may be where its parameters say so)."""
    from jitune.generators.calls import Remote
    from jitune.generators.endpoint import Endpoint

    if not model:
        raise UserError("generator: names no model; MODEL@https://host/v1 is needed")
    if section["adapter"]:
        raise UserError("generator: an adapter is applied to a model of your own; an endpoint has none")
    parameters, template = read_parameters(section["parameters"]), section["chat_template"]
    if template:
        from jitune.data.chat import load_template

        template = load_template(template)
    endpoint = Endpoint(base_url, model, key_env=section["key_env"], api=section["api"], parameters=parameters,
                        chat_template=template, timeout=section["timeout"], tries=section["tries"],
                        concurrency=section["concurrency"], **calling)
    return Remote(endpoint, say=say), longest(parameters)


def longest(parameters: Mapping[str, Any]) -> int:
    """How many tokens an answer may have where parameters say so; else 0."""
    found = [n for n in map(parameters.get, ("max_tokens", "max_completion_tokens")) if isinstance(n, int)]
    return found[0] if found else 0


def _load(section: dict):
    """The model of one's own that a section names."""
    from jitune import compile_cache, sharding
    from jitune.generators.local import open_local

    compile_cache.use_cache()
    return open_local(section["model"], adapter=section["adapter"], batch_size=section["batch_size"],
                      dtype=section["dtype"], mesh=sharding.make_mesh(**section["mesh"]),
                      max_length=section["max_length"], template=section["chat_template"],
                      kv_cache=section["kv_cache"], what="generator: model")


def _in_memory(section: dict, pretrained: Pretrained, weights: str):
    """A model that is loaded already."""
    from jitune.generators.local import Local, read_template

    if not weights:
        raise UserError("generator: a model in memory needs a digest of its weights, under which answers are kept")
    if pretrained.tokenizer is None:
        raise UserError("generator: the model in memory has no tokenizer")
    own = pretrained.tokenizer.chat_template
    identity = {"kind": "local", "model": section["model"] or "in memory", "digest": weights,
                "own_template": calls_.digest(own) if own else None}
    return Local(pretrained, identity, batch_size=section["batch_size"], max_length=section["max_length"],
                 kv_cache=section["kv_cache"],
                 chat_template=read_template(section["chat_template"], pretrained.tokenizer))
