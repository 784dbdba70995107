"""What a task is: documents, the requests that they make of a model, and what scores the answers.

A task is data and pure functions; it never sees a model. The line that every task goes through:

    specs -> load -> [Document] -> requests -> engine -> responses -> ask -> assessors -> verdicts -> score -> Outcome

A score of None means that an answer could not be scored. It is counted and shown, and is in no mean: never a zero.

    TASK = Task("colours", axis="utility", title="Colours of fruit", load=load, score=score,
                metrics=(Metric("accuracy", "answers that name the colour"),), files=("colours*.jsonl",))
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

AXES = ("utility", "faithfulness", "safety")

# A text that is continued as it is, or a conversation of (role, content) that the chat template renders.
Prompt = str | tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Score:
    """The log-likelihood of `continuation` after `prompt`; spaces at the prompt's end belong to the continuation."""

    prompt: Prompt
    continuation: str


@dataclass(frozen=True)
class Rolling:
    """The log-likelihood of a whole text, in windows of the model's context.

    bos: where the tokenizer begins texts with a BOS, it is scored too, after another, as lm-evaluation-harness does.
    """

    text: str
    bos: bool = False


@dataclass(frozen=True)
class Generate:
    """An answer to `prompt`: greedy at temperature 0; `sample` tells several samples of one prompt apart."""

    prompt: Prompt
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    sample: int = 0


@dataclass(frozen=True)
class LogLikelihood:
    """Of a Score or Rolling. logprob: the sum in nats. greedy: every token is the likeliest one (ties: the first).

    tokens: scored ones. truncated: tokens of the prompt that were cut off on the left to fit the context.
    """

    logprob: float
    greedy: bool
    tokens: int
    truncated: int = 0


@dataclass(frozen=True)
class Generated:
    """Of a Generate. finish_reason: `stop` or `length`. tokens: generated ones. truncated: as in LogLikelihood."""

    text: str
    finish_reason: str
    tokens: int
    truncated: int = 0


Request = Score | Rolling | Generate
Response = LogLikelihood | Generated


@dataclass(frozen=True)
class Ask:
    """A question to the judge: a conversation of (role, content). The verdict's value is the judge's text."""

    messages: tuple[tuple[str, str], ...]
    max_new_tokens: int = 512


@dataclass(frozen=True)
class Classify:
    """A text for the classifier (toxicity, as a rule). The verdict's value is a number in [0, 1]."""

    text: str


@dataclass(frozen=True)
class Execute:
    """A Python program for the sandbox. The verdict's value is "passed", or what went wrong."""

    program: str
    seconds: float = 10.0


@dataclass(frozen=True)
class Verdict:
    """What an assessor said. value: None where it failed, and then `failure` says why."""

    value: Any
    failure: str = ""


@dataclass(frozen=True)
class Document:
    """One item of a task.

    Attributes:
      id: unique within the task, and the same in every run.
      row: what the item is, as JSON; `hash` covers it.
      requests: what a model is asked, answered in this order.
      tags: slices that reports show: `language` (ISO 639-1), `domain`, and whatever else the task tells apart.
      cluster: items of one cluster are not independent (questions about one text, translations of one problem).
      target: what would be right, for reports; None where nothing is.
    """

    id: str
    row: Mapping[str, Any]
    requests: tuple[Request, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    cluster: str = ""
    target: Any = None

    @property
    def hash(self) -> str:
        """Of the row and the target, 16 hex digits: what two runs must share to be compared."""
        return digest([self.row, self.target])


@dataclass(frozen=True)
class Outcome:
    """How an item came out.

    Attributes:
      scores: metric -> number, or None where it could not be scored.
      answer: what was extracted from the answer, as text; None where nothing was.
      failure: why a score is None: `extraction` (no answer in the text), `judge`, `classifier`, `execution`, ...
      details: what metrics over the whole set need (`Metric.corpus`), and reports show; as JSON.
    """

    scores: Mapping[str, float | None]
    answer: str | None = None
    failure: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """One number of a task.

    Attributes:
      name: as in Outcome.scores.
      meaning: in one line, for reports.
      better: `higher`, `lower`, or `zero`: the nearer to it.
      unit: `share` (shown in percent), or `` for a plain number.
      chance: what guessing gives, where that is one number.
      worst: what a failed extraction counts as in the stricter reading shown beside the mean; None: no such reading.
      needs: the assessor that it takes: ``, `judge`, `classifier` or `execution`. Without it the metric is left out.
      corpus: `(documents, outcomes) -> number or None`, for what is no mean over items (BLEU, macro-F1); its interval
        is a bootstrap's over clusters.
    """

    name: str
    meaning: str
    better: str = "higher"
    unit: str = "share"
    chance: float | None = None
    worst: float | None = None
    needs: str = ""
    corpus: Callable[[Sequence[Document], Sequence[Outcome]], float | None] | None = None


@dataclass(frozen=True)
class Task:
    """A task; see the module's docstring.

    Attributes:
      load: `(specs) -> documents`; specs are paths, or names on the hub. Raises UserError with file and row.
      score: `(document, responses, verdicts) -> Outcome`; one response a request, one verdict a question of `ask`.
      metrics: the first one is the task's headline.
      files: patterns of file names, looked for at any depth of the data folder; all that match are loaded.
      hub: specs to load where `files` are not there and the task was asked for by name.
      ask: `(document, responses) -> questions` to assessors (Ask, Classify, Execute).
      packages: that its scores need, all of them in the extra `eval`; looked for before a model is asked.
      source: the paper or library of the method.
    """

    name: str
    axis: str
    title: str
    load: Callable[[Sequence[str]], list[Document]]
    score: Callable[[Document, tuple[Response, ...], tuple[Verdict, ...]], Outcome]
    metrics: tuple[Metric, ...]
    files: tuple[str, ...] = ()
    hub: tuple[str, ...] = ()
    domain: str = "general"
    ask: Callable[[Document, tuple[Response, ...]], tuple[Ask | Classify | Execute, ...]] | None = None
    packages: tuple[str, ...] = ()
    source: str = ""


def chat(user: str, system: str = "") -> Prompt:
    """A conversation of one user message, with a system message in front where there is one."""
    front = (("system", system),) if system else ()
    return (*front, ("user", user))


def digest(value: Any) -> str:
    """Of anything that JSON can say, 16 hex digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
