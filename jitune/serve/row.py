"""One answer of a server while it grows: what is asked of its row, and what its client hears as tokens come.

    row = Row(tokenizer, Ask((1, 5, 9), new=16, sampling=Sampling(), stream=True), stop_ids, tell=print)
    row.extend(...)      # by the engine, after each block: tell(row), whose `take_piece()` has what is new
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jitune.generation.batches import Answer, sort_stops
from jitune.generation.detokenize import decode, settled
from jitune.generation.sampling import Sampling
from jitune.types import UserError


@dataclass(frozen=True)
class Ask:
    """What one row is to do.

    prompt: token ids. new: its most tokens. sampling: its seed included. number: tells several answers to one prompt
    apart, as `row_ids` of `generate` do. bias: {token id: what is added to its logit}. stop: texts that end the
    answer. stream: whether its text is told as it comes. logprobs: whether its tokens are, each with what is told of
    it; top: whether the likeliest ones are among that. scored: whether the prompt's tokens are told like that, too.
    """

    prompt: tuple[int, ...]
    new: int
    sampling: Sampling
    number: int = 0
    bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    stream: bool = False
    logprobs: bool = False
    top: bool = False
    scored: bool = False


class Piece(NamedTuple):
    """What is new of an answer: text, and the tokens that are wholly in the text told so far. last: it is done."""

    text: str
    tokens: list[int]
    logprobs: list[float]
    top: list[list[tuple[int, float]]]
    last: bool


class Row(Answer):
    """An answer that tells of itself. failed: why it has none, or ""; a row that failed is done.

    scores: the `PromptLogprobs` of its prompt, where they are asked for, before its first piece.
    tell(row): called on the engine's thread when it has grown or is done.
    """

    def __init__(self, tokenizer: Any, ask: Ask, stop_ids, tell: Callable[[Row], None] = lambda row: None):
        # What ends all rows on the device are the model's ids; a stop that is a special token ends this one here.
        ids, strings = sort_stops(tokenizer, stop_ids, ask.stop)
        super().__init__(tokenizer, list(ask.prompt), ids, strings)
        self.ask, self.tell, self.failed, self.dropped = ask, tell, "", False
        self.scores = None
        self._shown, self._told, self._chars = "", 0, 0  # text told; tokens wholly in it, and their characters

    def extend(self, tokens: np.ndarray, logprobs: np.ndarray, finished: bool, top=None) -> None:
        """Takes what a block brought; logits that are not finite fail this answer alone."""
        ends = [i for i, token in enumerate(tokens.tolist()) if token in self.stop_ids]
        if ends:
            n, finished = ends[0] + 1, True
            tokens, logprobs, top = tokens[:n], logprobs[:n], top and tuple(x[:n] for x in top)
        try:
            super().extend(tokens, logprobs, finished, top if self.ask.top else None)
        except UserError as error:
            self.failed, self.done = str(error).removeprefix(f"{self.where}: "), True
        if self.done or self.ask.stream:
            self.tell(self)

    def fail(self, why: str) -> None:
        """Ends it without an answer."""
        if not self.done:
            self.failed, self.done = why, True
            self.tell(self)

    @property
    def finish_reason(self) -> str:
        """`stop` or `length`, of an answer that is done."""
        return self.generation().finish_reason

    def take_piece(self) -> Piece:
        """What was not told yet; it never ends inside a character, nor in what may become a stop string."""
        text = self.text if self.done else settled(decode(self.tokenizer, self.tokens, self.prompt), self.stop_strings)
        piece = ""
        if len(text) > len(self._shown) and (self.done or text.startswith(self._shown)):
            piece, self._shown = text[len(self._shown) :], text
        start, self._told = self._told, self._covered()
        told = slice(start, self._told)
        return Piece(piece, self.tokens[told], self.logprobs[told], (self.top or [])[told], self.done)

    def _covered(self) -> int:
        """How many tokens are wholly in what was told of the text."""
        if self.done or not self.ask.logprobs:
            return len(self.tokens)
        before, told, count, chars = [*self.prompt, *self.tokens[: self._told]], self._told, self._told, self._chars
        while count < len(self.tokens):
            text = decode(self.tokenizer, self.tokens[told : count + 1], before)
            if not self._shown.startswith(text, self._chars):
                break
            count, chars = count + 1, self._chars + len(text)
        self._chars = chars
        return count
