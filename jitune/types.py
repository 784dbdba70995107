"""The data that travels along the straight line: examples, batches, models, transforms, states.

Only shapes of data live here, no behaviour. Arrays are numpy arrays on the host and jax arrays under
jit; the types are written as `Any` so that this file imports without starting jax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypedDict

# Mesh axes, outermost first: replicas of everything, shards of parameters, shards of experts, shards of the sequence,
# shards inside a layer.
MESH_AXES = ("data", "fsdp", "expert", "context", "tensor")
# Their sizes where none are given: -1 is all devices that are left.
MESH_SIZES = {"data": 1, "fsdp": -1, "expert": 1, "context": 1, "tensor": 1}
# A batch's first axis is split over all of these; its second one, the sequence, over context.
BATCH_AXES = ("data", "fsdp", "expert")
# The segment id of cache slots that the tokens of every segment see.
EVERYONE = -1
# In a batch's sides: an answer that belongs to another prompt.
MISMATCHED = 2

Params = Any  # a nested dict of arrays
Array = Any


@dataclass(frozen=True)
class Example:
    """One training example before it is rendered to tokens.

    Either a conversation (`messages`), which the tokenizer's chat template renders, or raw `text`
    pieces, which are concatenated as they are.

    Attributes:
      messages: tuple of dicts as chat templates take them: `role`, `content` (str), and where present
        `tool_calls`, `reasoning_content`, `name`, `tool_call_id`.
      tools: tuple of JSON-schema tool definitions, `{"type": "function", "function": {...}}`.
      message_weights: one loss weight a message, or None for the default (1 for assistant, else 0).
      text: tuple of `(piece, loss_weight)`, for prompt/completion and plain text; empty for messages.
      origin: `(file, row)` with rows counted from 1, for error messages and provenance.
    """

    messages: tuple[dict, ...] = ()
    tools: tuple[dict, ...] = ()
    message_weights: tuple[float | None, ...] | None = None
    text: tuple[tuple[str, float], ...] = ()
    origin: tuple[str, int] = ("", 0)


class Batch(TypedDict, total=False):
    """A packed batch; every array is [batch, seq].

    tokens: int32 ids. targets: int32, the next token of the same document (0 where there is none).
    loss_weights: float32, 0 where nothing is trained. segment_ids: int32, 1.. for documents, 0 for
    padding. positions: int32, starting at 0 in each document. ends: optional, int32, the last segment that sees the
    token, its own by default: of documents that begin alike, the first one holds what they share, and a document sees
    every token before it whose segment .. ends its own number lies in (tree attention). lengths: optional, int32, the
    length of the token's whole document where only a part of it is here (a long prompt read in parts); some ropes
    turn long documents otherwise. embeddings: optional
    [batch, seq, dim], used in place of the embedded tokens. key: optional, a jax random key, there while training:
    for dropout.

    Objectives that compare answers, or learn from another model, find besides: sides: int32, of every token of a
    document 1 where its answer is wanted, -1 where it is not, MISMATCHED for an answer to another prompt, 0
    elsewhere; a pair's wanted document is followed, in its row, by the unwanted one, and an answer with a label by
    its mismatched one. reference_logprobs: float32, log p(target) by the reference. teacher_ids, teacher_logprobs:
    int32 and float32 [batch, seq, k], the likeliest next tokens by the teacher. Entry i is of what slot i predicts, as
    in targets.
    """

    tokens: Array
    targets: Array
    loss_weights: Array
    segment_ids: Array
    positions: Array
    ends: Array
    lengths: Array
    embeddings: Array
    key: Array
    sides: Array
    reference_logprobs: Array
    teacher_ids: Array
    teacher_logprobs: Array


class LayerKV(NamedTuple):
    """Keys and values of one layer. k, v: [batch, slots, kv_heads, head_dim].

    k_scale, v_scale: float32 [batch, slots, kv_heads] where k and v are int8, whose meaning is code * scale; else None.
    """

    k: Array
    v: Array
    k_scale: Array = None
    v_scale: Array = None


@dataclass(frozen=True)
class KVCache:
    """Keys and values of the tokens seen so far, in the order of their arrival; `models.cache` makes and moves it.

    layers: a LayerKV each. segment_ids: [batch, capacity], by place, 0 where empty or padding, EVERYONE in places of
    a prefix, which stand in front: place i is position i of every row. length: int32 scalar, the places in use (the
    same for every row: rows are left-padded). rings, static: of each layer, how many of the last places it keeps,
    those in front not counted; 0: all. front, static: places of a prefix. turn, static: where not 0, documents of more
    tokens than this have other keys from their first token on (a rope that goes by the length).

    A layer that keeps all has the token of place p in slot p, one with a ring of r in slot front + (p - front) % r.
    """

    layers: tuple[LayerKV, ...]
    segment_ids: Array
    length: Array
    rings: tuple[int, ...] = ()
    front: int = 0
    turn: int = 0

    def _replace(self, **changes) -> KVCache:
        return replace(self, **changes)


class Prefix(NamedTuple):
    """Keys and values that every document of every row sees in front of its own tokens.

    k, v: [layers, n, kv_heads, head_dim], used as they are: whatever turns or norms keys has been done. Entry i
    is position i, so that a document's first token is at position n.
    """

    k: Array
    v: Array


class Routed(NamedTuple):
    """What a model with experts tells besides its hidden states, where no cache was given.

    balance: float32 scalar, the load-balancing loss of this batch, over its layers as the family takes it, not yet
    multiplied by its coefficient, `coef`. load: [layers, experts] float32, the share of the tokens' choices that each
    got.
    """

    balance: Array
    load: Array
    coef: Array | float = 0.0


class Unfilled(NamedTuple):
    """A new cache whose first slots the model fills itself when it is first called with it.

    cache: a KVCache with these slots and those that were asked for.
    """

    cache: Any


class Model(NamedTuple):
    """A language model as pure functions.

    init: `(key) -> params`.
    embed: `(params, tokens [batch, seq]) -> [batch, seq, dim]`.
    hidden: `(params, batch, cache=None) -> ([batch, seq, dim], cache)`; the final norm is applied. A Prefix may
      stand in the place of the cache; nothing is kept then, and the second value is Routed where the model has
      experts, else None.
    unembed: `(params, hidden [..., dim]) -> logits [..., vocab]`, float32.
    init_cache: `(batch_size, capacity) -> KVCache`, or Unfilled; capacity counts the tokens to come. A third
      argument, a kind of `models.cache.KINDS`, is given only where one is asked for.
    """

    init: Callable
    embed: Callable
    hidden: Callable
    unembed: Callable
    init_cache: Callable


class Transform(NamedTuple):
    """What is trained, and how it changes the model.

    init: `(key, params) -> (frozen, trainable)`. Where frozen holds the parameters of the model, they are
      `frozen["base"]`, and what else it holds is small.
    apply: `(model) -> model` whose params are the pair `(frozen, trainable)`.
    merge: `(frozen, trainable) -> params`, or None where no merged form exists.
    """

    init: Callable
    apply: Callable
    merge: Callable | None


class Beside(NamedTuple):
    """The frozen part of a run whose objective needs another model: the run's own, and the other's parameters.

    It stands where `frozen` does: params are `(Beside(frozen, other), trainable)`. The objective takes it apart; the
    tuned model sees `(frozen, trainable)` alone.
    """

    frozen: Params
    other: Params


class TrainState(NamedTuple):
    """step: int32 scalar, optimizer steps done. trainable and opt_state: trees of arrays."""

    step: Array
    trainable: Params
    opt_state: Any


class Pretrained(NamedTuple):
    """A model with its weights: model, params, tokenizer (None where there is none), config."""

    model: Model
    params: Params
    tokenizer: Any
    config: Any


class UserError(ValueError):
    """Something the user gave cannot work; the message says what, where, and what is allowed.

    The command line prints it as one line and exits with code 2.
    """


class FallsBack(UserWarning):
    """What the user asked for is done in another way, with the same result; the message says what and why.

    The command line prints each such message once, as one line.
    """


@dataclass
class DataStats:
    """What happened to the data between the files and the batches; all counts."""

    examples: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    dropped_examples: int = 0
    dropped_tokens: int = 0
    truncated_examples: int = 0
    truncated_tokens: int = 0
    split_examples: int = 0
    notes: dict[str, int] = field(default_factory=dict)
