"""Prompts: rows of a file to token ids, and what ends the answers to them.

    tokens = encode_prompt(tokenizer, {"messages": [{"role": "user", "content": "2 + 2?"}]})
    stop_ids = default_stop_ids(tokenizer, config)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jitune.types import UserError


def default_stop_ids(tokenizer: Any, config: Any, *, chat_template: str | None = None) -> tuple[int, ...]:
    """The ids that end an answer: those of config and tokenizer, and what ends a turn of the template."""
    ids = list(config.eos_token_ids)
    if tokenizer is None:
        return tuple(ids)
    from jitune.data import chat

    return tuple(chat.stop_token_ids(tokenizer, {"eos_token_id": ids}, chat_template))


def encode_prompt(
    tokenizer: Any, row: dict, *, chat_template: str | None = None, where: str = "row"
) -> list[int]:
    """Token ids of a row: {"prompt": text} as it is, {"messages": [...], "tools": [...]} by the template.

    A plain text gets a BOS where the tokenizer itself would put one; a conversation gets what its template
    writes, and the generation prompt. chat_template: Jinja source in place of the tokenizer's own.

    Raises:
      UserError: beginning with `where`, for a row that is neither, or one that its template refuses.
    """
    given = [key for key in ("prompt", "messages") if row.get(key) is not None]
    if len(given) != 1:
        fields = ", ".join(row) or "no fields"
        raise UserError(f"{where}: a row has either prompt or messages; this one has {fields}")
    if given == ["messages"]:
        return tokenizer.encode(render_messages(tokenizer, row, chat_template, where), add_special_tokens=False)
    if not isinstance(row["prompt"], str) or not row["prompt"]:
        raise UserError(f"{where}: prompt is {row['prompt']!r:.40}; a text that is not empty is needed")
    front = [i for i in tokenizer("")["input_ids"][:1] if i == tokenizer.bos_token_id]
    tokens = tokenizer.encode(row["prompt"], add_special_tokens=False)
    return tokens if tokens[:1] == front else front + tokens


def render_messages(tokenizer, row: dict, chat_template: str | None, where: str) -> str:
    """The text of a row's conversation with the generation prompt; see `encode_prompt`."""
    messages, tools = row["messages"], row.get("tools") or None
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{where}: messages is {messages!r:.40}; a list of messages is needed")
    for i, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise UserError(f"{where}: message {i} is {message!r:.60}; it needs a role and content")
        if not isinstance(message.get("content"), str) and not message.get("tool_calls"):
            content = f"{message.get('content')!r:.40}"
            raise UserError(f"{where}: message {i} ({message['role']}): content is {content}, not a text")
    if messages[-1]["role"] == "assistant":
        raise UserError(f"{where}: the last message is the assistant's, so there is nothing to answer")
    if not (chat_template or tokenizer.chat_template):
        raise UserError(f"{where}: messages need a chat template, and the tokenizer has none; name one "
                        "(chatml, alpaca, a file) or give prompt in place of messages")  # fmt: skip
    try:
        return tokenizer.apply_chat_template(
            messages, tools=tools, chat_template=chat_template, add_generation_prompt=True, tokenize=False
        )
    except Exception as error:  # whatever a template raises is about the row
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: the chat template failed: {reason}") from error


def check_prompt(
    tokens: Sequence[int], where: str, *, max_positions: int = 0, vocab_size: int = 0, taken: int = 0,
    more: str = "",
) -> None:
    """Raises UserError, beginning with `where`, for a prompt that a model cannot answer; 0 means no limit.

    taken: positions of the context that a trained prefix or prompt has. more: what the error about it ends with, see
    `limits.hint`.
    """
    if not len(tokens):
        raise UserError(f"{where}: the prompt is empty; at least one token is needed")
    if max_positions and len(tokens) + taken >= max_positions:
        less = f", of which {taken} are trained ones in front," if taken else ""
        raise UserError(f"{where}: the prompt has {len(tokens)} tokens, and the model's context of "
                        f"{max_positions}{less} leaves no room for an answer{more}")  # fmt: skip
    if vocab_size and not 0 <= min(tokens) <= max(tokens) < vocab_size:
        raise UserError(f"{where}: token ids {min(tokens)} to {max(tokens)} are not all in the model's "
                        f"vocabulary of {vocab_size}; is this the model's own tokenizer?")  # fmt: skip
