"""A model of one's own that answers: a directory that jitune loads, an adapter that names its base, or a hub name.

    source = open_local("models/teacher", batch_size=8)
    source.ask([Call("Name a prime:", max_tokens=8)], purse, keep, tell)     # tell(0, Reply("7", "stop", 5, 2))

A sample is drawn by its prompt, its parameters and its seed alone, whatever else is asked beside it. In conversations
the tokenizer's control tokens are broken up, so that no text can end its turn; a plain text is taken as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jitune.evals.task import Generated, Score
from jitune.generators.call import Call, Lost, Prompt, Reply, break_up
from jitune.generators.purse import Purse
from jitune.types import Pretrained, UserError

LEAST_ROOM = 16  # tokens of an answer, if it may have so many, that a prompt must leave room for


def open_local(path: str, *, adapter: str = "", batch_size: int = 8, dtype: str = "float32", mesh: Any = None,
               max_length: int = 0, template: str = "", kv_cache: str = "", what: str = "model") -> Local:
    """The model of a directory, an adapter's directory, or a hub name.

    mesh: of jax; None: one device. template: as `read_template` takes it. kv_cache: see
    `models.cache.KINDS`. what: names the option in errors. Raises
    UserError for what cannot be loaded.
    """
    if not Path(path).expanduser().is_dir() and "/" not in path:
        raise UserError(f"{what} {path}: no such directory; a model behind an endpoint is MODEL@https://host/v1")
    from jitune.hub import peft, weights

    base, own = peft.find_base(path)
    if own and adapter:
        raise UserError(f"{what} {path}: is an adapter itself; give its base with the adapter {adapter}")
    chosen = weights.resolve(own or adapter) if own or adapter else None
    pretrained = weights.load(base, dtype=dtype, mesh=mesh)
    if chosen:
        pretrained = peft.open_adapters(pretrained, {"adapter": chosen}, base=base)["adapter"]
    if pretrained.tokenizer is None:
        raise UserError(f"{what} {path}: has no tokenizer")
    identity = {"kind": "local", "model": path.rstrip("/"), "digest": identify(base, chosen), "dtype": dtype}
    return Local(pretrained, identity, batch_size=batch_size, max_length=max_length, kv_cache=kv_cache,
                 chat_template=read_template(template, pretrained.tokenizer))


def read_template(name: str, tokenizer: Any) -> str | None:
    """The Jinja source of a file, chatml or alpaca; `none` (conversations are written plainly); None: the model's."""
    from jitune.data import chat

    return (name or None) if name in ("", "none") else chat.load_template(name, tokenizer=tokenizer)


def identify(base: Path, adapter: Path | None) -> str:
    """Tells two models apart: weights, tokenizer and adapter, 64 hex digits."""
    from jitune.hub import files

    state = hashlib.sha256(files.digest(base).encode())
    for folder, names in ((base, ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")),
                          (adapter, ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json",
                                     "tokenizer_config.json", "chat_template.jinja"))):
        for name in names:
            if folder and (folder / name).exists():
                state.update(name.encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    return state.hexdigest()


class Local:
    """Calls to a model in memory; see `open_local`.

    Args:
      pretrained: with an adapter, its model is `transform.apply(model)` and its params the pair.
      identity: as `call.Generator` has it; the template, a max_length and a kind of cache are added.
    """

    raw = True
    shared = True  # all processes of a run ask the same

    def __init__(self, pretrained: Pretrained, identity: dict, *, batch_size: int = 8, max_length: int = 0,
                 chat_template: str | None = None, engine: Any = None, kv_cache: str = ""):
        from jitune.evals.engine.engine import open_engine

        self.engine = engine or open_engine(pretrained, batch_size, max_length, chat_template, kv_cache)
        self.tokenizer, self.chat_template = pretrained.tokenizer, chat_template
        self.identity = {**identity, "chat_template": chat_template}
        self.identity |= {"max_length": max_length} if max_length else {}
        self.identity |= {"kv_cache": kv_cache} if kv_cache else {}
        self.controls = sorted({str(t) for t in getattr(self.tokenizer, "all_special_tokens", ()) if len(str(t)) > 1},
                               key=len, reverse=True)

    def check(self, call: Call) -> None:
        """Every call may be asked."""

    def ask(self, calls: Sequence[Call], purse: Purse, keep: Callable[[int, Reply], None],
            tell: Callable[[int, Reply | Lost], None], proven: bool = False) -> None:
        """Calls `tell(index, reply)` once a call, as batches are done, and `keep` before.

        proven: it has answered before. Raises UserError where no call will work, unless it has.
        """
        def on_reply(i: int, reply: Reply | Lost) -> None:
            if isinstance(reply, Reply):
                keep(i, reply)
            tell(i, reply)

        scored = [i for i, call in enumerate(calls) if call.options]
        if scored:
            self._score([calls[i] for i in scored], purse, lambda k, reply: on_reply(scored[k], reply))
        waiting = self._encode(calls, [i for i, call in enumerate(calls) if not call.options], on_reply, proven)
        while waiting:  # what does not fit into the budget may do so when others took less than they might have
            chosen = [w for w in waiting if purse.reserve(len(w[1]), w[2], wait=False)]
            if not chosen:
                for i, *_ in waiting:
                    on_reply(i, Lost("budget"))
                return
            taken = {i for i, *_ in chosen}
            waiting = [w for w in waiting if w[0] not in taken]
            self._generate(calls, chosen, purse, on_reply)

    def prompt(self, call: Call) -> Prompt:
        """What is rendered: a conversation without control tokens, or the text as it is."""
        if isinstance(call.prompt, str):
            return call.prompt
        return tuple((role, break_up(content, self.controls)) for role, content in call.prompt)

    def _encode(self, calls, places: list[int], on_reply, proven: bool) -> list[tuple[int, list[int], int]]:
        """(index, token ids, most new tokens) of the calls that fit; the others are lost."""
        from jitune.evals.engine import tokens

        texts, refused = {}, []
        for i in places:
            try:
                texts[i] = tokens.render(self.tokenizer, self.prompt(calls[i]), self.chat_template)
            except UserError as error:  # its own template may refuse one conversation, such as one with a system turn
                refused.append((i, error))
        if refused and not texts and not proven:
            raise refused[0][1]
        for i, error in refused:
            on_reply(i, Lost("failed", str(error)))
        plain = {i: tokens.is_plain(calls[i].prompt, self.chat_template) for i in texts}
        ids = {kind: tokens.encode(self.tokenizer, [texts[i] for i in texts if plain[i] == kind], plain=kind)
               for kind in (True, False)}
        found = []
        for i, text in texts.items():
            one, limit = ids[plain[i]][text] or [tokens.prefix_token(self.tokenizer)], self.engine.limit
            room, wanted = limit - len(one), min(calls[i].max_tokens, LEAST_ROOM)
            if room < wanted:
                on_reply(i, Lost("too_long", f"{wanted - room} tokens too many"))
            else:
                found.append((i, one, min(calls[i].max_tokens, room)))
        return found

    def _generate(self, calls, chosen, purse: Purse, on_reply) -> None:
        here = [calls[i] for i, *_ in chosen]

        def on_done(done: Sequence[tuple[int, Generated]]) -> None:
            for k, answer in done:
                i, ids, most = chosen[k]
                purse.settle(len(ids), most, used=(len(ids), answer.tokens))
                on_reply(i, Reply(answer.text, answer.finish_reason, len(ids), answer.tokens))

        self.engine.generate_tokens(
            [ids for _, ids, _ in chosen], max_new_tokens=[most for *_, most in chosen],
            stop=[tuple(c.stop) for c in here], temperature=[float(c.temperature) for c in here],
            samples=[sample(c.seed) for c in here], sampling=[sampling(c) for c in here], on_done=on_done,
            name=lambda k: f"prompt {prompt_words(here[k])!r}")

    def _score(self, calls: Sequence[Call], purse: Purse, on_reply) -> None:
        """The log-probabilities of the options of each call."""
        requests, owners, parts = [], [], [{} for _ in calls]
        for i, call in enumerate(calls):
            requests += [Score(self.prompt(call), option) for option in call.options]
            owners += [(i, option) for option in call.options]

        def on_done(done) -> None:
            for place, response in done:
                i, option = owners[place]
                parts[i][option] = response
                if len(parts[i]) == len(set(calls[i].options)):
                    cut = max(r.truncated for r in parts[i].values())
                    purse.settle(0, 0, used=(0, 0 if cut else 1))
                    choices = {option: parts[i][option].logprob for option in calls[i].options}
                    on_reply(i, Lost("too_long", f"{cut} tokens too many") if cut else
                             Reply("", "stop", None, 1, "", choices))

        self.engine.answer(requests, on_done=on_done)


def sampling(call: Call) -> Any:
    """What holds of a call besides its temperature; of a greedy one the penalties alone."""
    from jitune.generation.sampling import Sampling

    filters = {"top_p": float(call.top_p), "top_k": int(call.top_k)} if call.temperature else {}
    return Sampling(presence_penalty=float(call.presence_penalty), frequency_penalty=float(call.frequency_penalty),
                    **filters)


def sample(seed: int) -> int:
    """The number of a sample for the engine, below 2**31: the seed itself where it is."""
    if 0 <= seed < 2**31:
        return seed
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "little") & 0x7FFFFFFF


def prompt_words(call: Call) -> str:
    """The end of what was asked, for errors."""
    return (call.prompt if isinstance(call.prompt, str) else call.prompt[-1][1] if call.prompt else "")[-40:]
