r"""Examples to tokens and loss weights: the one place where masks are made.

In: a Hugging Face fast tokenizer and an `Example`. Out: `Rendered`, token ids with one loss weight a token.

    rendered = render(tokenizer, example, train_on="assistant")

A conversation is rendered by its chat template and tokenized once. What is trained is found by rendering
prefixes: message i lies between the text of the messages before it, generation prompt included, and the end
of its turn. So a template needs no `{% generation %}` block, and the role header is never trained. This is
sound only where a conversation's text begins with the text of its prefixes; anything else is an error.

ChatML with one answer, trained where a 1 stands:

    <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n
    0           0   0 0 0         0 0           0        0 1 1         0
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jitune.types import Example, UserError

TRAIN_ON = ("assistant", "last", "all")
BUILT_IN = {name: Path(__file__).parent / "templates" / f"{name}.jinja" for name in ("chatml", "alpaca")}


class Rendered(NamedTuple):
    """An example as tokens.

    tokens: int32 [length]. loss_weights: float32 [length], of predicting that token. text: as tokenized.
    origin: `(file, row)`. notes: what is odd about it, counted in `DataStats.notes`.
    """

    tokens: np.ndarray
    loss_weights: np.ndarray
    text: str
    origin: tuple[str, int] = ("", 0)
    notes: tuple[str, ...] = ()


class Chat(NamedTuple):
    """A tokenizer with its chat template, studied once.

    end: matches a token that may end a turn. tail: matches such tokens at the end of a text. header: the role
    header, where the template ignores `add_generation_prompt`. stops: the end-of-turn tokens it writes.
    """

    tokenizer: Any
    template: str | None
    end: re.Pattern
    tail: re.Pattern
    header: str
    stops: tuple[str, ...]


def render(tokenizer, example: Example, *, train_on="assistant", chat_template=None) -> Rendered:
    """Renders one example, see `render_all`."""
    return render_all(tokenizer, [example], train_on=train_on, chat_template=chat_template)[0]


def render_all(tokenizer, examples, *, train_on="assistant", chat_template=None) -> list[Rendered]:
    """Renders examples, tokenizing them together.

    Args:
      tokenizer: a fast tokenizer (its offsets are needed).
      examples: conversations and raw texts, in any order.
      train_on: `assistant` (every assistant message), `last` (the last of them), `all` (the whole text).
        Message weights that an example brings go before this.
      chat_template: Jinja source in place of the tokenizer's own template.

    The end-of-turn token is trained with its turn; what the template writes after it is not. A token that
    reaches over the edge of a trained span is trained, as in the assistant masks of transformers.

    Raises:
      UserError: no template; one that fails, is not prefix-stable, or whose end of turn is not a token; an
        example with nothing to train.
    """
    if train_on not in TRAIN_ON:
        raise UserError(f"data: train_on={train_on!r} is not one of {', '.join(TRAIN_ON)}")
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"data: masks need a fast tokenizer (tokenizer.json), not {type(tokenizer).__name__}")
    chat = study(tokenizer, chat_template) if any(e.messages for e in examples) else None
    plans = [_plan(chat, e, train_on) if e.messages else None for e in examples]
    chats = _encode(tokenizer, [plan[0] for plan in plans if plan])
    raw = _encode(tokenizer, [piece for e in examples if not e.messages for piece, _ in e.text], offsets=False)
    bos = _bos(tokenizer)
    rendered = []
    for example, plan in zip(examples, plans, strict=True):
        if plan:
            text, spans, notes = plan
            ids, offsets = next(chats)
            tokens, weights = np.asarray(ids, np.int32), weigh(offsets, spans)
        else:
            text, notes = "".join(piece for piece, _ in example.text), ()
            tokens, weights = _join(tokenizer, example, [next(raw)[0] for _ in example.text], bos)
        if not weights[1:].any():
            raise UserError(
                f"{where(example)}: no token of this example is trained (train_on={train_on!r}, weights "
                f"{example.message_weights}); give it an answer or a weight, or drop the row"
            )
        rendered.append(Rendered(tokens, weights, text, example.origin, notes))
    return rendered


def weigh(offsets, spans) -> np.ndarray:
    """Loss weights [tokens] from trained character spans `(start, end, weight)`; the last span wins.

    offsets: [tokens, 2], in characters. (0, 3) (3, 6) (6, 9) and the span (5, 7, 1.0) give 0 1 1.
    """
    offsets = np.fromiter(chain.from_iterable(offsets), np.int64, 2 * len(offsets)).reshape(-1, 2)
    weights = np.zeros(len(offsets), np.float32)
    for start, end, weight in spans:
        weights[(offsets[:, 0] < end) & (offsets[:, 1] > start)] = weight
    return weights


def message_weights(example: Example, train_on="assistant") -> list[float]:
    """One loss weight a message: the example's own, else 1 or 0 by role and `train_on`."""
    roles = [message["role"] for message in example.messages]
    answers = [i for i, role in enumerate(roles) if role == "assistant"]
    trained = {"assistant": answers, "last": answers[-1:], "all": range(len(roles))}[train_on]
    given = example.message_weights or (None,) * len(roles)
    if len(given) != len(roles):
        raise UserError(f"{where(example)}: {len(given)} message weights for {len(roles)} messages")
    return [float(i in trained) if weight is None else float(weight) for i, weight in enumerate(given)]


def split_turns(example: Example, *, train_on="assistant") -> list[Example]:
    """One example a trained turn, each ending with that turn and training only it.

    For templates that write earlier turns differently (Qwen3 strips their reasoning): each turn is then
    trained in the context that it is generated in. Three answers make examples of 2, 4 and 6 messages.
    """
    if train_on == "all":
        raise UserError("data: split_turns trains turn by turn and train_on='all' whole texts; choose one")
    weights = enumerate(message_weights(example, train_on))
    turns = [(example.messages[: i + 1], (0.0,) * i + (weight,)) for i, weight in weights if weight]
    return [replace(example, messages=turn, message_weights=given) for turn, given in turns] or [example]


def load_template(name_or_path: str, *, tokenizer=None) -> str:
    """The Jinja source of a built-in template (`chatml`, `alpaca`) or of a file.

    Given a tokenizer that puts a BOS in front of plain text, a built-in template writes that BOS too: its
    model expects one, and rendered conversations are tokenized without special tokens.
    """
    if name_or_path in BUILT_IN:
        source = BUILT_IN[name_or_path].read_text(encoding="utf-8")
        return "{{- bos_token -}}\n" + source if tokenizer is not None and _bos(tokenizer) else source
    if not Path(name_or_path).is_file():
        raise UserError(f"data: chat_template={name_or_path!r} is no file and not {' or '.join(BUILT_IN)}")
    try:
        return Path(name_or_path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"data: chat_template={name_or_path!r} is no text in UTF-8: {error}") from error


def stop_token_ids(tokenizer, generation_config: dict, chat_template=None) -> list[int]:
    """Ids that end a generated turn: the EOS ids, then the template's end-of-turn tokens."""
    eos = (generation_config or {}).get("eos_token_id")
    ids = [*(eos if isinstance(eos, (list, tuple)) else [eos]), tokenizer.eos_token_id]
    if chat_template or tokenizer.chat_template:
        ids += tokenizer.convert_tokens_to_ids(list(study(tokenizer, chat_template).stops))
    return list(dict.fromkeys(int(i) for i in ids if i is not None))


def colour(tokenizer, rendered: Rendered, *, marks=False):
    """A `rich.text.Text`: trained tokens green and underlined, weights other than 0 and 1 yellow.

    With `marks`, for output without colour, trained runs stand in `[[...]]`, or in `[[0.5:...]]`.
    """
    from rich.text import Text

    text, shown, weights = Text(), "", rendered.loss_weights
    edges = [0, *(np.flatnonzero(np.diff(weights)) + 1).tolist(), len(weights)]
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        # Decoded from the front: SentencePiece decoders drop the space that a piece alone begins with.
        whole = tokenizer.decode(rendered.tokens[:end].tolist(), clean_up_tokenization_spaces=False)
        run, shown, weight = whole[len(shown) :], whole, float(weights[start])
        if marks and weight:
            run = f"[[{run}]]" if weight == 1 else f"[[{weight:g}:{run}]]"
        text.append(run, "dim" if weight == 0 else "green underline" if weight == 1 else "yellow underline")
    return text


def where(example) -> str:
    """`file:row` of an `Example` or a `Rendered`, for messages."""
    return "{}:{}".format(*example.origin) if example.origin[0] else "example"


def study(tokenizer, chat_template=None) -> Chat:
    """Finds a template's end-of-turn tokens and generation prompt from a question and an answer."""
    if not (chat_template or tokenizer.chat_template):
        raise UserError(
            "data: the tokenizer has no chat template; give one with --config.data.chat_template=FILE or a "
            f"built-in name: {', '.join(BUILT_IN)} (alpaca for base models without chat tokens)"
        )
    chat = Chat(tokenizer, chat_template, re.compile("(?!)"), re.compile("(?!)"), "", ())
    probe = Example(({"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}))
    header = after = ""
    try:
        before, found, after = _apply(chat, probe, 2).rpartition("answer")
        bare, after = _apply(chat, probe, 1), after if found else ""
        if bare == _apply(chat, probe, 1, prompt=True) and before.startswith(bare):
            header = before[len(bare) :].strip()
    except UserError:
        pass  # a template may ask for more than two plain messages; real examples raise their own errors
    added = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
    # A token that is added but not special counts where the template itself writes it: `</tool_call>` may
    # close an answer in Qwen's text, yet it is no end of turn.
    stops = {token for token in special | {t.content for t in added} if token in after}
    words = "|".join(re.escape(token) for token in sorted(special | stops, key=len, reverse=True)) or "(?!)"
    end, tail = re.compile(words), re.compile(rf"(?:(?:{words})\s*)+\Z")
    return Chat(tokenizer, chat_template, end, tail, header, tuple(sorted(stops, key=after.find)))


def _plan(chat: Chat, example: Example, train_on: str):
    """Returns `(text, [(start, end, weight)], notes)` of a conversation; positions count characters."""
    text, weights = _apply(chat, example, len(example.messages)), message_weights(example, train_on)
    base = float(train_on == "all")
    spans, notes = [(0, len(text), base)], []
    if base and example.messages[-1]["role"] == "assistant" and not chat.tail.search(text):
        raise _endless(example, len(weights) - 1, text)
    for i, weight in enumerate(weights):
        span = (*_span(chat, example, text, i), weight) if weight != base else spans[0]
        spans += [span] if weight != base else []
        if weight and example.messages[i]["role"] == "assistant":
            notes += _omissions(example, i, text[span[0] : span[1]])
    if any(_name(tool) not in text for tool in example.tools):
        notes.append("tools not in the rendered text")
    if any(chat.end.search(message.get("content") or "") for message in example.messages):
        notes.append("special tokens written in a message")
    return text, spans, tuple(dict.fromkeys(notes))


def _span(chat: Chat, example: Example, text: str, i: int) -> tuple[int, int]:
    """The characters of message i in `text`: after its generation prompt, through its end of turn."""
    assistant = example.messages[i]["role"] == "assistant"
    if assistant and chat.header:
        raise UserError(
            f"{where(example)}: the chat template ignores add_generation_prompt, so {chat.header!r} would be "
            "trained; add a generation prompt to it, or use --config.data.chat_template=chatml"
        )
    # Most templates look at messages[0], so the text before the first message is not asked for.
    prefix = _apply(chat, example, i, prompt=assistant) if i or assistant else ""
    through = text if i + 1 == len(example.messages) else _apply(chat, example, i + 1)
    if not through.startswith(prefix):
        raise _unstable(example, i, "it does not begin with its generation prompt", prefix, through, "")
    tail = chat.tail.search(through, len(prefix))
    if assistant and not tail:
        raise _endless(example, i, through)
    ends = [m.end() for m in chat.end.finditer(through, tail.start())] if tail else [len(through)]
    # Phi-3 writes an EOS after the last turn only: then an earlier token of the tail is the common end.
    end = next((end for end in reversed(ends) if text.startswith(through[:end])), None)
    if end is None:
        way_out = "--config.data.split_turns=True trains each turn as the last of its text; "
        raise _unstable(example, i, "later messages change how it is written", through, text, way_out)
    return len(prefix), end


def _apply(chat: Chat, example: Example, count: int, *, prompt=False) -> str:
    """The first `count` messages as text; transformers runs the template in Jinja's sandbox."""
    try:
        return chat.tokenizer.apply_chat_template(
            [list(example.messages[:count])],
            tools=list(example.tools) or None,
            chat_template=chat.template,
            add_generation_prompt=prompt,
            tokenize=False,
        )[0]
    except Exception as error:  # a template can raise anything
        why = " ".join(str(error).split()) or type(error).__name__
        what = f"messages 1-{count}" if count else "a conversation that begins with an assistant message"
        raise UserError(f"{where(example)}: the chat template failed on {what}: {why}") from error


def _omissions(example: Example, i: int, text: str):
    """Names what of a trained message is missing in its rendered text; missing tool calls are an error."""
    message = example.messages[i]
    if any(_name(call) not in text for call in message.get("tool_calls") or ()):
        raise UserError(
            f"{where(example)}: the chat template leaves out the tool calls of message {i + 1}; use one that "
            "writes them, such as --config.data.chat_template=chatml"
        )
    if (message.get("reasoning_content") or "").strip() not in text:
        yield "reasoning_content not in the rendered text"
    if (message.get("content") or "").strip() not in text:
        yield "assistant content not in the rendered text as given"


def _name(tool: dict) -> str:
    return str((tool.get("function") or tool).get("name") or "")


def _endless(example: Example, i: int, text: str) -> UserError:
    return UserError(
        f"{where(example)}: message {i + 1} (assistant) does not end with a special token or EOS: its end of "
        f"turn is never trained, and generation would not stop; the text ends {text[-40:]!r}. Use a template "
        "that ends turns with a token of this tokenizer, as --config.data.chat_template=alpaca does (EOS)"
    )


def _unstable(example: Example, i: int, why: str, given: str, found: str, way_out: str) -> UserError:
    at = len(os.path.commonprefix([given, found]))
    old, new = (repr(text[max(0, at - 20) : at + 40]) for text in (given, found))
    return UserError(
        f"{where(example)}: the chat template is not prefix-stable: message {i + 1} "
        f"({example.messages[i]['role']}): {why}: {old} became {new}. {way_out}"
        "--config.data.chat_template=chatml writes every turn alike"
    )


def _encode(tokenizer, texts: list[str], *, offsets=True):
    """An iterator of `(ids, offsets or None)` of the texts, without special tokens."""
    # Has transformers set up its backend; its own batches are slow, for they are lists of lists.
    tokenizer("", add_special_tokens=False, verbose=False)
    backend = tokenizer.backend_tokenizer
    encode = backend.encode_batch if offsets else backend.encode_batch_fast
    # Some post-processors (GPT-NeoX's) trim spaces off the offsets; with no special tokens they do nothing else.
    post_processor, backend.post_processor = backend.post_processor, None
    try:
        encoded = encode(texts, add_special_tokens=False)
    finally:
        backend.post_processor = post_processor
    return ((one.ids, one.offsets if offsets else None) for one in encoded)


def _bos(tokenizer) -> list[int]:
    """`[bos]` where the tokenizer itself puts one in front of a text, else `[]`."""
    ids = tokenizer("", add_special_tokens=True)["input_ids"]
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id else []


def _join(tokenizer, example: Example, pieces: list[list[int]], bos: list[int]):
    """Raw text: its pieces' tokens between BOS and EOS; the EOS has the weight of the last piece."""
    if tokenizer.eos_token_id is None:
        raise UserError(f"{where(example)}: the tokenizer has no eos_token to end a text with")
    counts, weights = [len(ids) for ids in pieces], [weight for _, weight in example.text]
    tokens = [token for ids in pieces for token in ids]
    if bos and tokens[:1] != bos:
        tokens, counts, weights = bos + tokens, [len(bos), *counts], [0.0, *weights]
    if example.text and tokens[-1:] != [tokenizer.eos_token_id]:
        tokens, counts, weights = [*tokens, tokenizer.eos_token_id], [*counts, 1], [*weights, example.text[-1][1]]
    return np.asarray(tokens, np.int32), np.repeat(np.asarray(weights, np.float32), counts)
