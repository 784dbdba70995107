r"""DEITA: how complex an instruction is and how good its answer, as a scoring model says.

    measured = measure(open_scorer("models/scorer"), records)       # [records, 6], see COLUMNS

The model is asked with a prompt that ends "##Complexity: " or "##Quality: ", and the score is the expected value of
what it would say next, over "1" to "6" alone (Liu et al. 2024, and the authors' code): sum of k softmax(logits)_k. A
conversation's score is the sum over its turns of complexity x quality. Probabilities .5 of "2" and .5 of "4": 3.0.

The published scorers were trained for these prompts; any other model may be asked, with prompts of one's own, but what
it says then is another number. Selection is another stage's: it keeps the best by the score `deita` whose cosine to all
that were kept is at most 0.9.

What differs from the authors' code: a last question without an answer is not scored (there: its quality with an empty
answer); texts that do not fit are cut, so that the prompt's end stays (there: they are not cut); and a number that
cannot be read is an error (there: 3.0).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jitune.construct.curate.scores.model import MESH, check_model, open_scorer
from jitune.construct.curate.scores.pick import Rule, check_rule, pick
from jitune.construct.curate.scores.texts import NO_ANSWER, NO_INSTRUCTION, TOO_LONG, WHY, name_of
from jitune.construct.curate.stage import Choice
from jitune.data.record import Record, turns
from jitune.types import UserError

COLUMNS = ("complexity", "quality", "deita", "turns", "cut", "why")
LABELS = ("1", "2", "3", "4", "5", "6")
LENGTH = 2048
ROOM = 8  # tokens that are left to a label
# The prompts that the published scorers were trained with, spaces and all.
COMPLEXITY = ("You are a helpful assistant. Please identify the complexity score of the following user query. \n"
              "##Query: {instruction}  \n##Complexity: ")
QUALITY = ("You are a helpful assistant. Please identify the quality score of the Response corresponding to the "
           "Question. \n #Question#:\n{instruction}\n#Response#:\n{output} \n##Quality: ")


class Question(NamedTuple):
    """What is asked of the scorer. template: with {instruction}, {output}. fields: their texts. name: for errors."""

    template: str
    fields: dict[str, str]
    name: str = ""


def exchanges(record: Record) -> list[tuple[str, str]]:
    """(question, answer) of every turn: what users said since the last answer, and what the assistant answered.

    System prompts, tools and reasoning are left out; a question without an answer is none.
    """
    found: list[list[str]] = []
    for role, text in turns(record):
        if role == "user":
            if not found or found[-1][1]:
                found.append(["", ""])
            found[-1][0] += ("\n\n" if found[-1][0] else "") + text
        elif role == "assistant" and found:
            found[-1][1] += ("\n\n" if found[-1][1] else "") + text
    return [(question, answer) for question, answer in found if question.strip() and answer.strip()]


def expected(logprobs: np.ndarray) -> np.ndarray:
    """sum of k p_k, [n], of log-probabilities of "1" to "6", [n, 6], of which p is the softmax."""
    weights = np.exp(logprobs - logprobs.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)) @ np.arange(1, 1 + logprobs.shape[1])


def ask(engine: Any, questions: Sequence[Question], *, max_length: int = LENGTH) -> tuple[np.ndarray, np.ndarray]:
    """(scores from 1 to 6, float64 [n], NaN where the prompt alone does not fit; tokens that were cut, int64 [n]).

    max_length: of a filled prompt, or the engine's limit, what is less. Raises UserError for what is not finite.
    """
    from jitune.evals.engine import tokens

    tokenizer, most = engine.pretrained.tokenizer, min(max_length, engine.limit) - ROOM
    labels = {template: label_tokens(tokenizer, template) for template in {q.template for q in questions}}
    questions = [q._replace(template=q.template.rstrip()) if labels[q.template][0] else q for q in questions]
    labels |= {template.rstrip(): found for template, found in labels.items() if found[0]}
    texts = [fill(q.template, q.fields) for q in questions]
    ids = tokens.encode(tokenizer, texts)
    shown = [(ids[text], 0) if len(ids[text]) <= most else _fit(tokenizer, q, most)
             for q, text in zip(questions, texts, strict=True)]  # fmt: skip
    owners = [i for i, (prompt, _) in enumerate(shown) if prompt]
    pairs = [(shown[i][0], label) for i in owners for label in labels[questions[i].template][1]]
    found = engine.score_tokens(pairs, name=lambda j: f"{questions[owners[j // len(LABELS)]].name}, a label")
    values = np.full(len(questions), np.nan)
    if owners:
        values[owners] = expected(np.asarray([x for x, *_ in found], np.float64).reshape(-1, len(LABELS)))
    return values, np.asarray([cut for *_, cut in shown], np.int64)


def label_tokens(tokenizer: Any, template: str) -> tuple[bool, list[list[int]]]:
    """(whether the spaces at the prompt's end go with the label, the token ids of "1" to "6" after the prompt).

    A label is one token right after the prompt, where the tokenizer has it so: then all six come from the logits of one
    position. Where it has not, for it joins a digit with the space before it, the label with that space is a
    continuation of one or more tokens, as in lm-evaluation-harness, and its log-likelihood is the sum of theirs.
    """
    from jitune.evals.engine import tokens

    text = fill(template, {"instruction": "a", "output": "a"})
    found = tokens.encode(tokenizer, [text, text.rstrip(), *(text + label for label in LABELS)])
    after = [found[text + label] for label in LABELS]
    if all(ids[:-1] == found[text] for ids in after):
        return False, [ids[-1:] for ids in after]
    return True, [ids[len(found[text.rstrip()]) :] for ids in after]


def fill(template: str, fields: dict[str, str]) -> str:
    """A template with its fields' texts; braces in a text stay as they are."""
    return re.sub(r"\{(instruction|output)\}", lambda match: fields[match[1]], template)


def measure(engine: Any, records: Sequence[Record], *, complexity: str = COMPLEXITY, quality: str = QUALITY,
            max_length: int = LENGTH) -> np.ndarray:  # fmt: skip
    """float32 [records, 6], see COLUMNS: complexity and quality are means over the turns, deita is the sum.

    complexity, quality: prompts with {instruction}, and {output} for the answer; both are asked with one model.
    """
    asked = [(i, pair) for i, record in enumerate(records) for pair in exchanges(record)]
    questions = [Question(template, {"instruction": pair[0], "output": pair[1]}, name_of(records[i]))
                 for i, pair in asked for template in (complexity, quality)]  # fmt: skip
    values, cuts = ask(engine, questions, max_length=max_length)
    values, cuts = values.reshape(-1, 2), cuts.reshape(-1, 2).sum(axis=1)
    owners, found = np.asarray([i for i, _ in asked], np.int64), np.zeros((len(records), len(COLUMNS)), np.float32)
    for i, record in enumerate(records):
        mine, cut = values[owners == i], cuts[owners == i].sum()
        if not len(mine):
            found[i, 5] = NO_ANSWER if any(role == "user" for role, _ in turns(record)) else NO_INSTRUCTION
        elif np.isnan(mine).any():
            found[i, 4:] = cut, TOO_LONG
        else:
            found[i] = *mine.mean(axis=0), mine.prod(axis=1).sum(), len(mine), cut, 0
    return found


def build(*, model: Any = "", complexity: str = COMPLEXITY, quality: str = QUALITY, max_length: int = 0,
          min: float | None = None, max: float | None = None, top: int = 0, fraction: float = 0.0, of: str = "left",
          missing: str = "reject", dtype: str = "float32", mesh: Sequence[int] = MESH,
          batch_size: int = 256) -> Choice:  # fmt: skip
    """A Choice by DEITA's score; it writes `deita_complexity`, `deita_quality` and `deita`, and
    `deita_cut`, tokens, where a text was cut.

    model: a path, loaded when it is first asked. complexity, quality: prompts, see `measure`. max_length: tokens of a
    filled prompt, 0: 2048 or the model's context, what is less. min, max, top, fraction, of, missing: see `pick.Rule`;
    without them every record that has a score is kept, for the stage that selects.
    """
    for name, template, needed in (("complexity", complexity, "{instruction}"), ("quality", quality, "{output}")):
        if needed not in template:
            raise UserError(f"deita: the prompt {name}={template[:60]!r} has no {needed}")
    check_model(model, "deita")
    rule = check_rule(Rule(min, max, top, fraction, of, missing=missing), "deita")

    def measured_of(records):
        engine = open_scorer(model, dtype=dtype, max_length=max_length, usual=LENGTH, mesh=mesh)
        return measure(engine, records, complexity=complexity, quality=quality, max_length=max_length or LENGTH)

    def choose(heads, measured):
        measured = np.asarray(measured, np.float64)
        values = np.where(measured[:, 5] == 0, measured[:, 2], np.nan)
        return pick(values, rule, "deita", [WHY[int(why)] for why in measured[:, 5]])

    def note(record, row):
        new = dict(zip(("deita_complexity", "deita_quality", "deita"), map(float, row[:3]), strict=True))
        new |= {"deita_cut": float(row[4])} if row[4] else {}
        return record if row[5] else replace(record, scores={**record.scores, **new})

    return Choice("deita", len(COLUMNS), measured_of, choose, note, batch_size)


def _fit(tokenizer: Any, question: Question, most: int) -> tuple[list[int], int]:
    """(ids of the prompt, tokens that were cut) with at most `most` tokens; none where not even the frame fits.

    The longest text is cut at its end, again and again, until all fits.
    """
    from jitune.evals.engine import tokens

    fields, first = dict(question.fields), None
    while True:
        text = fill(question.template, fields)
        ids = tokens.encode(tokenizer, [text])[text]
        first = first or len(ids)
        if len(ids) <= most:
            return ids, first - len(ids)
        used = {name: fields[name] for name in fields if f"{{{name}}}" in question.template}
        name = max(used, key=lambda key: len(used[key]), default="")
        if not used.get(name):
            return [], first
        offsets = tokenizer(used[name], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        keep = len(offsets) - (len(ids) - most)
        end = offsets[keep][0] if keep > 0 else 0
        fields[name] = used[name][: min(end, len(used[name]) - 1)]
