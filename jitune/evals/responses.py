"""Responses of a model, kept as they come: requests and a store in, responses out.

    with open_store(out, model, engine) as store:
        responses = answer(engine, requests, store, bars)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jitune.evals.progress import Bars
from jitune.evals.store import Store, from_first_process
from jitune.evals.task import Generate, Generated, LogLikelihood, Request, Response, Rolling, Score, digest


def open_store(out: Path, model: Mapping[str, Any], engine: Any) -> Store:
    """The responses kept in a directory. Raises UserError where they are those of another model."""
    return Store(out / "responses.jsonl", {name: model[name] for name in ("digest", "dtype") if name in model}
                 | {"max_length": engine.limit})


def answer(engine: Any, requests: Sequence[Request], store: Store | None, bars: Bars) -> list[Response]:
    """One response a request, in their order, from the store where it is there; new ones are put into it at once.

    Of several processes the first has the store; all answer the same requests.
    """
    keys = [request_key(engine, request) for request in requests]
    known = from_first_process(store.values if store else {})
    found = {key: revive(known[key]) for key in keys if key in known}
    todo = {key: request for key, request in zip(keys, requests, strict=True) if key not in found}
    for name, generated in (("scoring", False), ("generating", True)):
        here = [key for key, request in todo.items() if isinstance(request, Generate) == generated]
        with bars.bar(name, len(here)) as advance:

            def keep(done, here=here, advance=advance):
                for index, response in done:
                    if store:
                        store.put(here[index], asdict(response))
                advance(len(done))

            found |= dict(zip(here, engine.answer([todo[key] for key in here], on_done=keep), strict=True))
    return [found[key] for key in keys]


def request_key(engine: Any, request: Request) -> str:
    """What a response is kept under: the request as the model sees it. A text and a conversation may begin unlike."""
    return digest([type(request).__name__, isinstance(getattr(request, "prompt", ""), str), shown(engine, request)])


def shown(engine: Any, request: Request) -> dict:
    """A request with its prompt as the text that the model sees."""
    match request:
        case Score(prompt, continuation):
            return {"prompt": engine.render(prompt), "continuation": continuation}
        case Rolling():
            return asdict(request)
        case Generate(prompt):
            return {**asdict(request), "prompt": engine.render(prompt)}


def revive(value: dict) -> Response:
    """A response from what the store has of it."""
    return Generated(**value) if "text" in value else LogLikelihood(**value)
