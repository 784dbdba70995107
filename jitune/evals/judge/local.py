"""A model of one's own as the judge: a directory that jitune loads, an adapter that names its base, or a hub name.

    identity, ask, parameters = open_local("models/judge", batch_size=8)

Control tokens of its own tokenizer are broken up in what it is asked, so that no answer can end its turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jitune.evals.judge.calls import Question
from jitune.evals.judge.endpoint import Reply
from jitune.evals.task import Generate, Generated, Score
from jitune.types import UserError


def open_local(path: str, *, batch_size: int = 8, dtype: str = "float32", mesh: Any = None, chat_template=None):
    """(identity, ask, parameters) as `judge.Judge` takes them. Raises UserError for what cannot be loaded."""
    if not Path(path).expanduser().is_dir() and "/" not in path:
        raise UserError(f"--judge {path}: no such directory; a model behind an endpoint is MODEL@https://host/v1, or "
                        "--judge_base_url")
    from jitune.evals.engine.engine import open_engine
    from jitune.hub import peft, weights

    base, adapter = peft.find_base(path)
    adapters = {"judge": weights.resolve(adapter)} if adapter else {}
    pretrained = weights.load(base, dtype=dtype, mesh=mesh)
    if adapters:
        pretrained = peft.open_adapters(pretrained, adapters, base=base)["judge"]
    if pretrained.tokenizer is None:
        raise UserError(f"--judge {path}: has no tokenizer")
    engine = open_engine(pretrained, batch_size=batch_size, chat_template=chat_template)
    identity = {"kind": "local", "model": path.rstrip("/"), "digest": identify(base, adapters.get("judge")),
                "dtype": dtype, "chat_template": chat_template}
    return identity, asker(engine, pretrained.tokenizer), lambda q: {"max_tokens": q.max_tokens, "options": q.options}


def identify(base: Path, adapter: Path | None) -> str:
    """Tells two judges apart: weights, tokenizer and adapter, 64 hex digits."""
    from jitune.hub import files

    state = hashlib.sha256(files.digest(base).encode())
    for folder, names in ((base, ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")),
                          (adapter, ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json",
                                     "tokenizer_config.json", "chat_template.jinja"))):
        for name in names:
            if folder and (folder / name).exists():
                state.update(name.encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    return state.hexdigest()


def asker(engine, tokenizer):
    """`ask` of a judge, by way of an engine; replies come as its batches are done."""
    controls = sorted({str(t) for t in getattr(tokenizer, "all_special_tokens", ()) if len(str(t)) > 1}, key=len,
                      reverse=True)

    def ask(questions: Sequence[Question], purse, on_reply, proven: bool = False) -> None:
        requests, owners, parts = [], [], [{} for _ in questions]
        for i, question in enumerate(questions):
            prompt = tuple((role, break_up(content, controls)) for role, content in question.messages)
            asked = [Score(prompt, option) for option in question.options] or [Generate(prompt, question.max_tokens)]
            requests += asked
            owners += [(i, part) for part in range(len(asked))]

        def on_done(done):
            for place, response in done:
                i, part = owners[place]
                parts[i][part] = response
                if len(parts[i]) == (len(questions[i].options) or 1):
                    reply = read([parts[i][k] for k in sorted(parts[i])], questions[i])
                    if isinstance(reply, Reply):
                        purse.settle(0, 0, used=(0, reply.output_tokens))
                    on_reply(i, reply)

        if requests:
            engine.answer(requests, on_done=on_done)

    return ask


def read(responses, question: Question) -> Reply | str:
    """One reply of what the engine answered."""
    if any(r.truncated for r in responses):
        return f"judge: the question does not fit its context ({max(r.truncated for r in responses)} tokens too many)"
    if question.options:
        choices = {option: r.logprob for option, r in zip(question.options, responses, strict=True)}
        return Reply("", "stop", None, 1, "", choices)
    answer: Generated = responses[0]
    return Reply(answer.text, answer.finish_reason, None, answer.tokens)


def break_up(text: str, controls: Sequence[str]) -> str:
    """A text in which no control token stands: a space comes after its first character."""
    for token in controls:
        while token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
