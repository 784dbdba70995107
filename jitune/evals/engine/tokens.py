"""Texts to token ids, as lm-evaluation-harness cuts them: what is context, what is continuation.

    encode_pairs(tokenizer, [("The sea is ", "blue", True)])    # ids of "The sea is", ids of " blue"
    rolling([5, 6, 7, 8, 9], 1, 4)                              # ([1], [5, 6, 7, 8]), ([5, 6, 7, 8], [9])

White space at a context's end belongs to the continuation, and both are tokenized together, for tokenizers join a
space with the word after it. A BOS stands in front where the tokenizer puts one, but never twice; an empty context is
the BOS, or the EOS of a tokenizer that has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jitune.evals.task import Generate, Prompt, Request, Rolling, Score
from jitune.generation.prompts import render_messages
from jitune.types import UserError

PLAIN = "none"  # the chat template of models without one

Ids = list[int]


def render(tokenizer: Any, prompt: Prompt, chat_template: str | None = None) -> str:
    """The text that a model sees: a conversation by the template, with the generation prompt.

    chat_template: Jinja source in place of the tokenizer's own; `none`: the contents, joined by blank lines, and a
    newline at the end. Raises UserError where there is no template, or it refuses the conversation.
    """
    if isinstance(prompt, str):
        return prompt
    if chat_template == PLAIN:
        return "\n\n".join(content for _, content in prompt) + "\n"
    if not (chat_template or tokenizer.chat_template):
        raise UserError("the tokenizer has no chat template, and conversations need one; give one (chatml, alpaca, a "
                        "file), or none, which writes them plainly")  # fmt: skip
    messages = [{"role": role, "content": content} for role, content in prompt]
    return render_messages(tokenizer, {"messages": messages}, chat_template, "prompt")


def is_plain(prompt: Prompt, chat_template: str | None = None) -> bool:
    """Whether a prompt's text gets a BOS where the tokenizer puts one; a template writes its own."""
    return isinstance(prompt, str) or chat_template == PLAIN


def prefix_token(tokenizer: Any) -> int:
    """The id that stands before a text without a context: BOS, or else EOS. Raises UserError without either."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise UserError("the tokenizer has neither BOS nor EOS, so a text without a context cannot be scored")


def encode(tokenizer: Any, texts: Iterable[str], *, plain: bool = True) -> dict[str, Ids]:
    """Token ids of each text; equal texts are tokenized once. plain: see `is_plain`."""
    unique = list(dict.fromkeys(texts))
    if not unique:
        return {}
    ids = tokenizer(unique, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    front = _bos(tokenizer) if plain else []
    return {text: one if one[: len(front)] == front else front + one for text, one in zip(unique, ids, strict=True)}


def _bos(tokenizer: Any) -> Ids:
    """`[bos]` where the tokenizer itself puts one in front of a text, else `[]`."""
    return [i for i in tokenizer("")["input_ids"][:1] if i == tokenizer.bos_token_id]


def encode_pairs(tokenizer: Any, triples: Sequence[tuple[str, str, bool]]) -> list[tuple[Ids, Ids]]:
    """(context ids, continuation ids) of each (context, continuation, whether the context is plain, see `is_plain`).

    A continuation may come out empty, where it is empty or its letters were joined with the context's; see the
    module's docstring.
    """
    moved = []
    for context, continuation, plain in triples:
        kept = context.rstrip()
        moved.append((kept, context[len(kept) :] + continuation, plain))
    found = {}
    for wanted in (True, False):
        texts = [t for c, d, plain in moved if c and plain == wanted for t in (c, c + d)]
        found[wanted] = encode(tokenizer, texts, plain=wanted)
    bare = encode(tokenizer, [d for c, d, _ in moved if not c], plain=False)
    pairs = []
    for context, continuation, plain in moved:
        if not context:
            pairs.append(after_nothing(tokenizer, bare[continuation]))
            continue
        first, whole = found[plain][context], found[plain][context + continuation]
        pairs.append((first, whole[len(first) :]))
    return pairs


def after_nothing(tokenizer: Any, ids: Ids) -> tuple[Ids, Ids]:
    """(context, continuation) of a text without a context; it may begin with the prefix token itself."""
    prefix = prefix_token(tokenizer)
    return ([prefix], ids[1:] if ids[:1] == [prefix] else ids)


def rolling(ids: Ids, prefix: int, limit: int) -> list[tuple[Ids, Ids]]:
    """Pairs (context, continuation) that score every token of `ids` once, each pair in a window of `limit` inputs.

    The first window begins with the prefix token; a later one has as many new tokens as there are left, up to the
    limit, and is filled with what stands before them. ([5, 6, 7, 8, 9], 1, 4): see the module's docstring.
    """
    pairs = []
    for start in range(0, len(ids), limit):
        end = min(start + limit, len(ids))
        before = ids[max(end - limit - 1, 0) : start] if start else [prefix]
        pairs.append((before, ids[start:end]))
    return pairs


def pairs_of(tokenizer: Any, requests: Sequence[Score | Rolling], *, chat_template: str | None,
             limit: int) -> list[list[tuple[Ids, Ids]]]:  # fmt: skip
    """The pairs (context, continuation) of each request: one of a Score, one a window of a Rolling.

    Raises UserError for a text without a token.
    """
    shown = _render_all(tokenizer, [r.prompt for r in requests if isinstance(r, Score)], chat_template)
    triples = [(shown[r.prompt], r.continuation, is_plain(r.prompt, chat_template))
               for r in requests if isinstance(r, Score)]  # fmt: skip
    scored = iter(encode_pairs(tokenizer, triples))
    texts = {bos: encode(tokenizer, [r.text for r in requests if isinstance(r, Rolling) and r.bos == bos], plain=bos)
             for bos in (False, True)}
    pairs = []
    for r in requests:
        if isinstance(r, Score):
            pairs.append([next(scored)])
            continue
        ids = texts[r.bos][r.text]
        context, ids = ([prefix_token(tokenizer)], ids) if r.bos else after_nothing(tokenizer, ids)
        if not ids:
            raise UserError(f"{name_of(r)}: the text has no token to score")
        pairs.append(rolling(ids, context[0], limit))
    return pairs


def prompts_of(tokenizer: Any, requests: Sequence[Generate], *, chat_template: str | None) -> list[Ids]:
    """Token ids of each request's prompt; an empty one is the prefix token."""
    shown = _render_all(tokenizer, [r.prompt for r in requests], chat_template)
    found = {}
    for plain in (True, False):
        chosen = [p for p in shown if is_plain(p, chat_template) == plain]
        ids = encode(tokenizer, [shown[p] for p in chosen], plain=plain)
        found.update({p: ids[shown[p]] or [prefix_token(tokenizer)] for p in chosen})
    return [found[r.prompt] for r in requests]


def _render_all(tokenizer, prompts: Iterable[Prompt], chat_template: str | None) -> dict[Prompt, str]:
    return {prompt: render(tokenizer, prompt, chat_template) for prompt in dict.fromkeys(prompts)}


def name_of(request: Request) -> str:
    """A request in a few words, for errors."""
    if isinstance(request, Rolling):
        return f"Rolling({request.text[:60]!r})"
    prompt = request.prompt if isinstance(request.prompt, str) else request.prompt[-1][1]
    if isinstance(request, Score):
        return f"Score(...{prompt[-40:]!r}, {request.continuation[:40]!r})"
    return f"Generate({prompt[:60]!r})"
