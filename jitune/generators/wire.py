"""OpenAI's protocol: what is sent for a call, and how what comes back is read.

    body_of(e, Call((("user", "Name a prime."),), max_tokens=16, temperature=0.7, seed=3))
    # {"model": ..., "messages": [...], "max_tokens": 16, "temperature": 0.7, "top_p": 1.0, "seed": 3}
    ask(e, call)                       # Reply("7", "stop", 12, 1, "gpt-x-2024")

A conversation goes to `chat/completions`, a plain text to `completions` (api=completion), which also takes
conversations where a template renders them. Of drawn answers top_p and the seed are always sent, since servers have
defaults of their own; `top_k`, which is vLLM's, only where it is set.
"""

from __future__ import annotations

import math
import re
from typing import Any

from jitune.generators.call import Call, Reply, break_up
from jitune.generators.endpoint import Endpoint, Failed, hide, post
from jitune.hub.tokenizer import import_transformers
from jitune.types import UserError

PATHS = {"chat": "chat/completions", "completion": "completions"}
CONTROL = re.compile(r"<\|[^|<>\n]{1,60}\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]")
CUT = ("length", "max_tokens", "model_length")
BROKEN_OFF = ("abort", "error", "cancelled")
REAL = 12  # characters of a key; servers that need none are given a word, such as EMPTY, which answers may hold
TOP = {"chat": 20, "completion": 5}  # likeliest tokens that may be asked for


def ask(e: Endpoint, call: Call, *, patient: bool = True) -> Reply:
    """One answer. Raises Failed after the last try, UserError where no call will ever work. patient: see `post`."""
    return post(e, PATHS[e.api], body_of(e, call), lambda reply: read_reply(e, reply, call), patient=patient)


def check(e: Endpoint, call: Call) -> None:
    """Raises UserError for a call that the API cannot take."""
    if e.api == "chat" and isinstance(call.prompt, str):
        raise UserError(f"{e.shown}: a chat API puts its own template around a text, so it cannot continue one; "
                        "api=completion does, or a model of your own")
    if e.api == "completion" and not isinstance(call.prompt, str) and not e.chat_template:
        raise UserError(f"{e.shown}: a completion API has no template for conversations; give chat_template (chatml, "
                        "alpaca, a file), or api=chat")


def options_of(e: Endpoint, call: Call) -> dict[str, Any]:
    """How a call is asked: the body without the model and the prompt."""
    body = {"temperature": float(call.temperature), "max_tokens": call.max_tokens}
    if call.temperature:
        body |= {"top_p": float(call.top_p), "seed": call.seed}
        body |= {"top_k": call.top_k} if call.top_k else {}
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(call, name):
            body[name] = float(getattr(call, name))
    if call.stop:
        body["stop"] = list(call.stop)
    if call.options:
        body |= {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP["chat"]} if e.api == "chat" else \
            {"max_tokens": 1, "logprobs": TOP["completion"]}
    return {name: value for name, value in {**body, **e.parameters}.items() if value is not None}


def body_of(e: Endpoint, call: Call) -> dict[str, Any]:
    """What is sent; the endpoint's parameters are put over the call's, and None takes one out."""
    if e.api == "completion":
        prompt = call.prompt if isinstance(call.prompt, str) else render(e.chat_template, call)
        return {"model": e.model, "prompt": prompt, **options_of(e, call)}
    messages = [{"role": role, "content": content} for role, content in call.prompt]
    return {"model": e.model, "messages": messages, **options_of(e, call)}


def render(template: str, call: Call) -> str:
    """A conversation by a Jinja template, with the generation prompt; what the template writes as a control token is
    broken up in it."""
    import_transformers()
    from transformers.utils.chat_template_utils import render_jinja_template

    controls = sorted(set(CONTROL.findall(template)), key=len, reverse=True)
    messages = [{"role": role, "content": break_up(content, controls)} for role, content in call.prompt]
    try:
        shown, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True,
                                         bos_token="", eos_token="")
    except Exception as error:  # whatever a template raises is about the conversation
        raise UserError(f"the chat template failed: {' '.join(str(error).split())[:200]}") from None
    return shown[0]


def read_reply(e: Endpoint, reply: Any, call: Call) -> Reply:
    """A reply's JSON. What is missing raises a KeyError or its like, which `post` takes for rubbish."""
    choice = reply["choices"][0]
    counts = usage(reply)
    reason = str(choice.get("finish_reason") or "stop")
    if reason == "content_filter":
        raise Failed("the answer was filtered", kind="filtered", used=counts)
    if reason in BROKEN_OFF:
        raise ValueError("broken off")
    message = choice["message"] if e.api == "chat" else {"content": choice["text"]}
    text = message["content"] if message["content"] is not None else message.get("refusal")
    finish = "length" if reason in CUT else "stop"
    text = "" if text is None and (call.options or e.empty and finish == "length") else text
    if not isinstance(text, str) or not (text.strip() or call.options or e.empty):
        raise ValueError("no text")
    text = hide(e, text.encode("utf-8", "replace").decode(), least=REAL)  # half of a surrogate pair is no text
    choices = _choices(e, choice) if call.options else None
    return Reply(text, finish, *counts, hide(e, str(reply.get("model") or ""), least=REAL), choices)


def usage(reply: Any) -> tuple[int | None, int | None]:
    """Tokens in and out, as the endpoint counted them; None where it did not."""
    found = reply.get("usage") or {}
    counts = [found.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return tuple(n if isinstance(n, int) and not isinstance(n, bool) and n >= 0 else None for n in counts)


def _choices(e: Endpoint, choice: Any) -> dict[str, float]:
    """First token -> log-probability."""
    logprobs = choice.get("logprobs") or {}
    if e.api == "completion":
        top = (logprobs.get("top_logprobs") or [None])[0]
        pairs = top.items() if top else ()
    else:
        content = logprobs.get("content")
        pairs = [(t["token"], t["logprob"]) for t in reversed(content[0]["top_logprobs"])] if content else ()
    if not pairs:
        raise UserError(f"{e.shown}: gives no log-probabilities of first tokens")
    return {token: float(value) for token, value in pairs if not math.isnan(float(value))}
