"""What a server offers: each model by its name, with what its requests need to become rows and its rows replies.

    models = offer({"base": pretrained, "poems": with_adapter}, engine, fingerprints={"base": "fp_...", ...})
    rows = models["base"].asks(asked, "chat/completions")       # what each row is to do, or Refused
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from jitune.generation.sampling import Sampling
from jitune.serve import prompts
from jitune.serve.engine import Engine
from jitune.serve.fields import CHAT, Refused, refuse
from jitune.serve.replies import Spelling
from jitune.serve.row import Ask
from jitune.types import Pretrained

COLDEST = 1e-4  # logits over less may be more than float32 holds, and the likeliest token is as good as certain
FEW = 16  # tokens of a completion where max_tokens is not given, as with OpenAI


class Served(NamedTuple):
    """A model that is offered. limit: of a prompt with its answer. lock: one thread at a time encodes."""

    name: str
    tokenizer: Any
    spelling: Spelling
    lock: Any
    limit: int
    vocab_size: int
    stop_ids: frozenset[int]
    fingerprint: str
    created: int

    def asks(self, asked: Mapping[str, Any], path: str) -> list[Ask]:
        """One for each answer, those to one prompt together. Raises Refused."""
        with self.lock:
            if path == CHAT:
                if not self.tokenizer.chat_template:
                    raise Refused(400, f"the model {self.name} has no chat template; ask /v1/completions, or start the "
                                  "server with --chat_template", param="messages")  # fmt: skip
                found = [prompts.chat(self.tokenizer, asked)]
            else:
                found = prompts.completion(self.tokenizer, asked["prompt"], vocab_size=self.vocab_size)
        given, name = asked["max_tokens"], "messages" if path == CHAT else "prompt"
        seed = secrets.randbits(32) if asked["seed"] is None else asked["seed"] % 2**32
        if beyond := [token for token in asked["logit_bias"] if token >= self.vocab_size]:
            raise refuse("logit_bias", beyond[0], f"must have token ids below {self.vocab_size}")
        told = asked["logprobs"] if path == CHAT else asked["logprobs"] is not None
        top = bool(asked["top_logprobs"] if path == CHAT else asked["logprobs"])
        scored = told and path != CHAT and asked["echo"]
        asks = []
        for ids in found:
            new = self._room(len(ids), given, name)
            new = min(FEW, new) if given is None and path != CHAT else new
            asks += [Ask(tuple(ids), new, _sampling(asked, seed), number, asked["logit_bias"], asked["stop"],
                         asked["stream"], told, top, scored) for number in range(asked["n"])]  # fmt: skip
        return asks

    def _room(self, length: int, given: int | None, name: str) -> int:
        """The most tokens of an answer to a prompt of so many."""
        longest = f"This model's maximum context length is {self.limit} tokens"
        if not length:
            raise refuse(name, "", "has no tokens; at least one is needed")
        if length >= self.limit:
            raise Refused(400, f"{longest}, and your {name} resulted in {length} tokens; shorten the {name}",
                          param=name, code="context_length_exceeded")  # fmt: skip
        if given is not None and length + given > self.limit:
            raise Refused(400, f"{longest}, and you asked for {length + given}: {length} in the {name} and "
                          f"max_tokens of {given}; at most {self.limit - length} are left for the answer",
                          param="max_tokens", code="context_length_exceeded")  # fmt: skip
        return self.limit - length if given is None else given


def _sampling(asked: Mapping[str, Any], seed: int) -> Sampling:
    names = ("min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    return Sampling(**{name: asked[name] for name in names}, top_k=max(asked["top_k"], 0),
                    temperature=asked["temperature"] if asked["temperature"] >= COLDEST else 0.0,
                    top_p=max(asked["top_p"], 1e-9), seed=seed)


def offer(models: Mapping[str, Pretrained], engine: Engine, *, fingerprints: Mapping[str, str]) -> dict[str, Served]:
    """What an engine's models are for requests."""
    found, now = {}, int(time.time())
    for name, (_, _, tokenizer, config) in models.items():
        lane = engine.lanes[name]
        found[name] = Served(name, tokenizer, Spelling(tokenizer), threading.Lock(), lane.limit, config.vocab_size,
                             lane.stop_ids, fingerprints.get(name, ""), now)  # fmt: skip
    return found


def find(models: Mapping[str, Served], name: str | None) -> Served:
    """The model that is asked for. Raises Refused."""
    served = ", ".join(models)
    if name is None:
        raise Refused(400, f"you must provide a model parameter; served are {served}", param="model")
    if name not in models:
        raise Refused(404, f"The model {name!r:.120} does not exist; served are {served}", param="model",
                      code="model_not_found")  # fmt: skip
    return models[name]
