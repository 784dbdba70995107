"""OpenAssistant's trees in, records out: threads to train on, pairs and lists of ranked answers (Koepf et al. 2023).

    read(row, ("trees.jsonl", 1), Counter(), {})                        # threads: one a tree, by the best answers
    read(row, ("trees.jsonl", 1), Counter(), {}, make="pairs")          # of each two ranked answers to one message

A row of a nested file is a tree: `message_tree_id` and `prompt`, a message with `replies` in it. A row of a flat file
is a message with `message_id` and `parent_id`. Options, the first value is the default:

| option | values |
|---|---|
| make | threads, pairs, candidates (all answers to one message as a list, where there are two or more) |
| threads | best: the best-ranked reply at each step; all: each way down to a last answer |
| repeated | train, mask: an answer that an earlier thread of the tree has too is trained again, or has loss weight 0 |
| pairs | all: every better answer with every worse one; adjacent: each with the next; best: the best with each other |
| deleted, review | drop, keep: messages that were deleted; that their reviewers refused |
| synthetic | keep, drop: messages by a model |
| tree_state | empty for all, or the one that is read, such as ready_for_export |
| order | by_tree: a tree's rows follow each other; any: a whole file is held in memory (flat files) |

Every thread ends with the assistant. A message without a rank comes after those with one, in the order of the file,
and is in no pair. Flat files without `message_tree_id` are held in memory whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from jitune.construct.readers.trees import Forest, Message, grow
from jitune.data.record import Candidate, Provenance, Record
from jitune.data.row_parts import Drop, Messages, Origin, chosen_word, say
from jitune.types import UserError

ROLES = {"prompter": "user", "user": "user", "human": "user", "assistant": "assistant"}
# Names of the columns of a message and of its parent in flat files; the second pair is of the project's test data.
LINKS = (("message_id", "parent_id"), ("user_message_id", "parent_message_id"))


class Plan(NamedTuple):
    """The options, as the table above has them."""

    make: str = "threads"
    threads: str = "best"
    repeated: str = "train"
    pairs: str = "all"
    deleted: str = "drop"
    review: str = "drop"
    synthetic: str = "keep"
    tree_state: str = ""
    order: str = "by_tree"


OPTIONS = Plan._fields
ALLOWED = {"make": ("threads", "pairs", "candidates"), "threads": ("best", "all"), "repeated": ("train", "mask"),
           "pairs": ("all", "adjacent", "best"),
           "deleted": ("drop", "keep"), "review": ("drop", "keep"), "synthetic": ("keep", "drop"),
           "order": ("by_tree", "any")}


def is_tree(row: Mapping) -> bool:
    """Whether a row is a nested tree."""
    prompt = row.get("prompt")
    return isinstance(prompt, Mapping) and "text" in prompt and {"replies", "message_id", "role"} & set(prompt) != set()


def read_tree(row: Mapping, origin: Origin, notes: Counter, fields: Mapping, **options: str) -> Iterator[Record | Drop]:
    """Records of one nested tree."""
    plan = _plan(options)
    yield from _harvest(list(_nested(row, origin, plan)), plan, notes, tree=str(row.get("message_tree_id", "")))


def is_flat(row: Mapping) -> bool:
    """Whether a row is a message of a flat file."""
    return {"text", "role"} <= set(row) and any(set(link) <= set(row) or link[0] in row for link in LINKS)


def group(row: Mapping, **options: str) -> str:
    """What the rows of one tree share; where it is not said, all rows of a file."""
    return str(row.get("message_tree_id") or "") if _plan(options).order == "by_tree" else ""


def read_flat(rows: Sequence[tuple[Mapping, Origin]], notes: Counter, fields: Mapping,
              **options: str) -> Iterator[Record | Drop]:
    """Records of the messages of one tree, or of a file."""
    plan, trees = _plan(options), {}
    for row, origin in rows:
        trees.setdefault(str(row.get("message_tree_id") or ""), []).append(_flat(row, origin, plan))
    for tree, messages in trees.items():
        yield from _harvest(messages, plan, notes, tree=tree)


def _plan(options: Mapping[str, str]) -> Plan:
    plan = Plan(**options)
    for name, allowed in ALLOWED.items():
        chosen_word(getattr(plan, name), allowed, name)
    return plan


def _nested(row: Mapping, origin: Origin, plan: Plan) -> Iterator[Message]:
    """The messages of a nested tree, without recursion: chats can be long."""
    state, stack = str(row.get("tree_state") or ""), [(row["prompt"], None, "0")]
    while stack:
        node, parent, key = stack.pop()
        if not isinstance(node, Mapping):
            yield Message(key, parent and parent[0], "", "", origin=origin, raw=node,
                          fault=f"a reply must be an object, got {node!r:.60}")
            continue
        message = _message(node, key, parent and parent[0], origin, plan, state)
        named, above = str(node.get("parent_id") or ""), parent and parent[1]
        if above and named and named != above:
            message = message._replace(fault=f"its parent_id is {named}, but it stands below {above}")
        yield message
        replies = node.get("replies") or ()
        if not isinstance(replies, (list, tuple)):
            raise UserError(f"message {message.id}: 'replies' must be a list, got {replies!r:.60}")
        stack += [(reply, (key, message.id), f"{key}.{n}") for n, reply in reversed(list(enumerate(replies)))]


def _flat(row: Mapping, origin: Origin, plan: Plan) -> Message:
    name, above = next(link for link in LINKS if link[0] in row)
    key, parent = str(row[name] or ""), row.get(above)
    message = _message(row, key, None if parent in (None, "") else str(parent), origin, plan,
                       str(row.get("tree_state") or ""))
    return message._replace(id=key) if key else message._replace(fault=f"'{name}' is empty")


def _message(node: Mapping, key: str, parent: str | None, origin: Origin, plan: Plan, state: str) -> Message:
    """One message; what is wrong with it is said in `fault`, so that the rest of its tree can be read."""
    role, text, rank = ROLES.get(str(node.get("role")), ""), node.get("text"), node.get("rank")
    fault = ""
    if not role:
        fault = f"unknown role {node.get('role')!r:.40}; known are {', '.join(ROLES)}"
    elif not isinstance(text, str):
        fault = f"'text' must be text, got {text!r:.40}"
    elif rank is not None and not (isinstance(rank, (int, float)) and 0 <= rank < 1 << 31 and rank == int(rank)):
        fault = f"'rank' must be a whole number from 0, got {rank!r:.40}"
    raw = {name: value for name, value in node.items() if name != "replies"}
    return Message(key, parent, role, text if isinstance(text, str) else "", str(node.get("message_id") or key),
                   None if rank is None or fault else int(rank), origin, _left_out(node, plan, state), fault, raw)


def _left_out(node: Mapping, plan: Plan, state: str) -> str:
    """Why a message is left out on purpose, or ""."""
    if plan.tree_state and state != plan.tree_state:
        return "of_other_state"
    if plan.deleted == "drop" and node.get("deleted"):
        return "deleted"
    if plan.review == "drop" and node.get("review_result") is False:
        return "refused_in_review"
    return "synthetic" if plan.synthetic == "drop" and node.get("synthetic") else ""


def _harvest(messages: Sequence[Message], plan: Plan, notes: Counter, *, tree: str) -> Iterator[Record | Drop]:
    forest, drops = grow(messages, one_root=bool(tree))
    yield from drops
    notes["messages"] += len(messages)
    notes["trees"] += len(forest.roots)
    notes["unanswered"] += sum(path[-1].role == "user" and not forest.children[path[-1].key]
                               for path in forest.paths())
    if plan.make == "threads":
        yield from _threads((_all if plan.threads == "all" else _best)(forest), tree, mask=plan.repeated == "mask")
    else:
        yield from _ranked(forest, plan, notes, tree)


def _all(forest: Forest) -> Iterator[tuple[Message, ...]]:
    """The way to each answer after which no further answer comes."""
    children = forest.children
    for path in forest.paths():
        last = path[-1]
        if last.role == "assistant" and not any(children[child.key] for child in children[last.key]):
            yield path


def _best(forest: Forest) -> Iterator[tuple[Message, ...]]:
    """From each root by the best reply at each step, to the last answer; none where there is no answer."""
    for root in forest.roots:
        path = [root]
        while forest.children[path[-1].key]:
            path.append(min(forest.children[path[-1].key], key=_place))
        path = path if path[-1].role == "assistant" else path[:-1]
        if path:
            yield tuple(path)


def _place(message: Message) -> tuple[bool, int]:
    """Sorts the best first, and what has no rank last."""
    return message.rank is None, message.rank or 0


def _ranked(forest: Forest, plan: Plan, notes: Counter, tree: str) -> Iterator[Record]:
    """Pairs or lists of the answers to each message of a user."""
    for path in forest.paths():
        answers = forest.children[path[-1].key]
        if path[-1].role != "user" or len(answers) < 2:
            continue
        if plan.make == "candidates":
            yield _list(path, answers, tree)
            continue
        ranked = sorted((answer for answer in answers if answer.rank is not None), key=_place)
        notes["unranked"] += len(answers) - len(ranked)
        pairs = {"all": combinations(ranked, 2), "adjacent": zip(ranked, ranked[1:], strict=False),
                 "best": ((ranked[0], other) for other in ranked[1:])}[plan.pairs]
        for better, worse in pairs:
            if better.rank == worse.rank:
                notes["tied"] += 1
            else:
                yield _pair(path, better, worse, tree)


def _threads(paths: Iterable[Sequence[Message]], tree: str, *, mask: bool) -> Iterator[Record]:
    """The threads of a tree; with `mask` each answer is trained in the first of them only."""
    seen: set[str] = set()
    for path in paths:
        last, weights = path[-1], tuple(0.0 if message.key in seen else None for message in path)
        yield Record(last.id, _messages(path), message_weights=weights if any(w == 0.0 for w in weights) else None,
                     scores=_scores(last), meta=_meta(path, tree), provenance=_source(path))
        seen.update(message.key for message in path if mask and message.role == "assistant")


def _pair(path: Sequence[Message], better: Message, worse: Message, tree: str) -> Record:
    return Record(f"{better.id}:{worse.id}", _messages(path), chosen=_messages([better]), rejected=_messages([worse]),
                  meta=_meta(path, tree), provenance=_source((*path, better, worse)))


def _list(path: Sequence[Message], answers: Sequence[Message], tree: str) -> Record:
    candidates = tuple(Candidate(_messages([answer]), answer.rank, id=answer.id) for answer in answers)
    return Record(f"{path[-1].id}:answers", _messages(path), candidates=candidates, meta=_meta(path, tree),
                  provenance=_source((*path, *answers)))


def _messages(path: Sequence[Message]) -> Messages:
    return tuple(said for message in path for said in say(message.role, message.text))


def _meta(path: Sequence[Message], tree: str) -> dict[str, Any]:
    raw = path[-1].raw
    found = {"message_tree_id": tree, "message_ids": [message.id for message in path], "lang": raw.get("lang")}
    return {name: value for name, value in found.items() if value}


def _source(path: Sequence[Message]) -> Provenance:
    """Where the last message stands, and who wrote them all."""
    last, users = path[-1], dict.fromkeys(message.raw.get("user_id") for message in path)
    model = last.raw.get("model_name") if last.raw.get("synthetic") else ""
    return Provenance(source=f"{last.origin[0]}:{last.origin[1]}", model=str(model or ""),
                      annotators=tuple(str(user) for user in users if user))


def _scores(message: Message) -> dict[str, float]:
    """What labellers said of a message, from 0 to 1: {"quality": 0.75}; nested and flat exports write it unlike."""
    labels = message.raw.get("labels")
    if not isinstance(labels, Mapping):
        return {}
    if isinstance(labels.get("name"), list) and isinstance(labels.get("value"), list):
        found = dict(zip(labels["name"], labels["value"], strict=False))
    else:
        found = {name: label.get("value") for name, label in labels.items() if isinstance(label, Mapping)}
    return {str(name): float(value) for name, value in found.items() if isinstance(value, (int, float))}
