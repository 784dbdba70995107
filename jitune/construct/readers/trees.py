"""Trees of messages, grown from messages that name their parents; what does not fit is cut off with its reason.

    a, b = Message("a", None, "user", "Hi"), Message("b", "a", "assistant", "Hello")
    c = Message("c", "x", "user", "?")
    forest, drops = grow([a, b, c])
    forest.roots, forest.children["a"]      # [a], [b]
    drops[0].reason                         # "missing_parent": of c

| reason | message |
|---|---|
| duplicate_id | another message of the same tree has its id |
| missing_parent | its parent is not there |
| cycle | it is among its own ancestors, or below one that is |
| two_roots | a second message of a tree without a parent |
| wrong_role | an assistant at the root, or the same speaker as its parent |
| below_dropped | it stands below one that was dropped |

and whatever the message itself says in `left_out`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jitune.data.row_parts import Drop, Origin


class Message(NamedTuple):
    """One message of a tree.

    Attributes:
      key, parent: names within the tree; the parent of a root is None.
      role: user or assistant.
      text: what it says.
      id: its name outside; the key where there is none.
      rank: among the answers to the same parent, 0 for the best; None where it has none.
      origin: `(file, row)`.
      left_out: why it is left out on purpose, as one word, or "".
      fault: why it cannot be read, or "".
      raw: as the file has it.
    """

    key: str
    parent: str | None
    role: str
    text: str
    id: str = ""
    rank: int | None = None
    origin: Origin = ("", 0)
    left_out: str = ""
    fault: str = ""
    raw: Any = None


class Forest(NamedTuple):
    """roots: messages without a parent, in the order of the file. children: of each key, in the same order."""

    roots: list[Message]
    children: dict[str, list[Message]]

    def paths(self) -> Iterator[tuple[Message, ...]]:
        """From a root to each message, the message last; parents come before children."""
        stack = [(root,) for root in reversed(self.roots)]
        while stack:
            path = stack.pop()
            yield path
            stack += [(*path, child) for child in reversed(self.children.get(path[-1].key, []))]


def grow(messages: Sequence[Message], *, one_root: bool = False) -> tuple[Forest, list[Drop]]:
    """Links messages to trees.

    Args:
      messages: in any order.
      one_root: they are one tree, of which the first root counts.

    Returns:
      what grew, and a Drop for each message that has no place in it, causes before what hangs on them.
    """
    keys, why = _keyed(messages)
    below, heads = {}, []
    for message in keys.values():
        below.setdefault(message.parent, []).append(message)
        if message.parent is None:
            if one_root and any(head.parent is None for head in heads):
                why.setdefault(message.key, "two_roots")
            heads.append(message)
        elif message.parent not in keys:
            why.setdefault(message.key, "missing_parent")
            heads.append(message)
    drops, seen = {}, set()
    stack = [(head, None, None) for head in reversed(heads)]
    while stack:
        message, parent, cause = stack.pop()
        seen.add(message.key)
        drop = _judge(message, parent, why.get(message.key, ""), cause)
        if drop:
            drops[message.key] = drop
        stack += [(child, message, cause or drop) for child in reversed(below.get(message.key, ()))]
    for key in keys:
        if key not in seen:
            drops[key] = _drop(keys[key], "cycle", "its ancestors lead back to themselves")
    children = {key: [child for child in below.get(key, ()) if child.key not in drops]
                for key in keys if key not in drops}
    return Forest([head for head in heads if head.key not in drops], children), list(drops.values())


def _keyed(messages: Sequence[Message]) -> tuple[dict[str, Message], dict[str, str]]:
    """Messages by key, and why some cannot stay; what names a repeated id as its parent means the first of them."""
    keys, why, ids = {}, {}, set()
    for number, message in enumerate(messages):
        if message.key in keys:
            message = message._replace(key=f"{message.key} #{number}")
        if message.id and message.id in ids:
            why[message.key] = "duplicate_id"
        ids.add(message.id)
        keys[message.key] = message
    return keys, why


def _judge(message: Message, parent: Message | None, why: str, cause: Drop | None) -> Drop | None:
    """Why a message has no place, or None; `cause` is the Drop above it."""
    if cause:
        return _drop(message, "below_dropped", f"stands below one that was dropped: {cause.detail}", fault=cause.fault)
    if message.fault:
        return _drop(message, "malformed", message.fault)
    if why == "missing_parent":
        return _drop(message, why, f"its parent {message.parent} is not there; rows of a tree must follow each "
                     "other, or be read with order=any")
    if why:
        return _drop(message, why, {"two_roots": "a second one without a parent in its tree",
                                    "duplicate_id": "an earlier one has the same id"}[why])
    if message.role != ("assistant" if parent and parent.role == "user" else "user"):
        return _drop(message, "wrong_role", f"the {message.role} speaks " +
                     (f"after itself, {parent.id}" if parent else "first"))
    if message.left_out:
        return _drop(message, message.left_out, f"left out, as it is {message.left_out}", fault=False)
    return None


def _drop(message: Message, reason: str, detail: str, *, fault: bool = True) -> Drop:
    return Drop(reason, f"message {message.id or message.key}: {detail}", message.origin, fault, message.raw)
