"""Classifiers of texts (toxicity, as a rule): texts in, numbers from 0 to 1 out, and None with a reason.

    classifier = open_classifier("my_package.toxic:score")             # list[str] -> list[float | None]
    classifier = open_classifier("moderations@https://api.host/v1")    # POST {"input": text} to /moderations
    classifier.answer([Classify("You fool.")])                         # [Verdict(0.83)]

What fails is never a 0: an exception, a call that failed, NaN, and a number outside [0, 1] are verdicts of None.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from jitune.evals.store import Store
from jitune.evals.task import Classify, Verdict
from jitune.generators.endpoint import KEY_ENV, Endpoint, Failed, post, scrub
from jitune.types import UserError

BATCH = 32
HEADER = {"kind": "classifier"}


@dataclass
class Classifier:
    """What `open_classifier` gives.

    Attributes:
      identity: which one it is, as JSON.
      score: texts -> verdicts as they come, each with its index.
      store: where answers are kept; None: nowhere.
    """

    identity: dict[str, Any]
    score: Callable[[list[str]], Iterator[tuple[int, Verdict]]]
    store: Store | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("asked", "calls", "cached", "failed"), 0))

    def answer(self, texts: Sequence[Classify | str], on_done=None) -> list[Verdict]:
        """Verdicts in order; equal texts are asked once. on_done: called with [(index, verdict), ...]."""
        places: dict[str, list[int]] = {}
        for i, text in enumerate(texts):
            places.setdefault(text if isinstance(text, str) else text.text, []).append(i)
        found: list[Verdict | None] = [None] * len(texts)

        def settle(text, verdict):
            for i in places[text]:
                found[i] = verdict
            if on_done:
                on_done([(i, verdict) for i in places[text]])

        missing = []
        for text in places:
            kept = self.store.get(self._key(text)) if self.store else None
            settle(text, Verdict(**kept)) if kept else missing.append(text)
        self.counts["asked"] += len(texts)
        self.counts["cached"] += len(texts) - sum(len(places[t]) for t in missing)
        for i, verdict in self.score(missing):
            self.counts["calls"] += 1
            self.counts["failed"] += verdict.value is None
            if self.store and verdict.value is not None:
                self.store.put(self._key(missing[i]), asdict(verdict))
            settle(missing[i], verdict)
        return found

    @property
    def account(self) -> dict[str, Any]:
        """Which classifier, and what was asked of it."""
        return {**self.identity, **self.counts}

    def _key(self, text: str) -> str:
        return hashlib.sha256(json.dumps([self.identity, text], sort_keys=True).encode()).hexdigest()


def open_classifier(spec: str, *, cache=None, model: str = "", category: str = "", key_env: str = KEY_ENV,
                    concurrency: int = 8, **calling) -> Classifier:
    """The classifier that a spec names; see the module's docstring.

    cache: a file for an endpoint's answers; a function's are not kept, since it may change. model: of the endpoint.
    category: whose score is taken of /moderations; by default the highest of all. calling: as in `Endpoint`.

    Raises:
      UserError: for what cannot be imported, or is no such spec.
    """
    kind, at, url = spec.partition("@")
    if at:
        if kind != "moderations":
            raise UserError("--classifier: module:function or moderations@https://HOST/v1 is needed")
        endpoint = Endpoint(url, model, key_env=key_env, concurrency=concurrency, **calling)
        identity = {"classifier": f"moderations@{endpoint.shown}", "model": model, "category": category}
        return Classifier(identity, lambda texts: _moderate(endpoint, texts, category),
                          Store(cache, HEADER) if cache else None)
    module, colon, name = spec.partition(":")
    if not (module and colon and name):
        raise UserError(f"--classifier {spec}: module:function or moderations@https://HOST/v1 is needed")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--classifier {spec}: cannot be imported: {error}") from error
    if not callable(function):
        raise UserError(f"--classifier {spec}: is {type(function).__name__}, not a function")
    return Classifier({"classifier": spec, "source": _source(function)}, lambda texts: _call(spec, function, texts))


def check(value: Any) -> Verdict:
    """A number in [0, 1] as a verdict; anything else as a failure."""
    if value is None:
        return Verdict(None, "classifier: gave none")
    if hasattr(value, "item") and not isinstance(value, (int, float)):
        value = value.item() if getattr(value, "size", 1) == 1 else value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return Verdict(None, f"classifier: gave {value!r:.40}, which is no number")
    if not (math.isfinite(value) and 0 <= value <= 1):
        return Verdict(None, f"classifier: gave {float(value):g}, which is not between 0 and 1")
    return Verdict(float(value))


def _source(function: Callable) -> str:
    """Tells two versions of a function apart."""
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""


def _call(spec: str, function: Callable, texts: list[str]) -> Iterator[tuple[int, Verdict]]:
    """In batches; of a batch that fails every text is tried alone."""
    for start in range(0, len(texts), BATCH):
        batch = texts[start: start + BATCH]
        try:
            verdicts = _ask(spec, function, batch)
        except UserError:
            raise
        except Exception:  # a function of the user's: whatever it raises is a failure of its text
            verdicts = [_alone(spec, function, text) for text in batch]
        yield from enumerate(verdicts, start)


def _ask(spec: str, function: Callable, batch: list[str]) -> list[Verdict]:
    values = function(list(batch))
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, (list, tuple)) or len(values) != len(batch):
        given = f"{len(values)} values" if isinstance(values, (list, tuple)) else type(values).__name__
        raise UserError(f"--classifier {spec}: gave {given} for {len(batch)} texts; a list of a number each is needed")
    return [check(value) for value in values]


def _alone(spec: str, function: Callable, text: str) -> Verdict:
    try:
        return _ask(spec, function, [text])[0]
    except UserError:
        raise
    except Exception as error:
        return Verdict(None, f"classifier: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _moderate(e: Endpoint, texts: list[str], category: str) -> Iterator[tuple[int, Verdict]]:
    """One call a text; the first one alone, so that a wrong key or URL is one error."""
    def read(reply):
        scores = reply["results"][0]["category_scores"]
        if category and category not in scores:
            raise UserError(f"{e.shown}: has no category {category!r}; it has {', '.join(sorted(scores))}")
        known = {n: x for n, x in scores.items() if x is not None}  # what a model does not support is null
        return check(scores[category] if category else max(known.values()))

    def one(text, patient=True):
        body = {"input": text} | ({"model": e.model} if e.model else {})
        try:
            return post(e, "moderations", body, read, patient=patient)
        except Failed as error:
            if not patient and not error.reached:
                raise UserError(f"{e.shown}: {error}; is the endpoint running, and the URL right?") from None
            return Verdict(None, f"classifier: {scrub(e, str(error))}")

    if texts:
        yield 0, one(texts[0], patient=False)
        with ThreadPoolExecutor(e.concurrency) as pool:
            yield from enumerate(pool.map(one, texts[1:]), 1)
