"""Generations while training: a few prompts of the evaluation data, answered greedily every so often."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from jitune import runlog
from jitune.data import pairs, pipeline, sources
from jitune.generation.generate import generate
from jitune.generation.prompts import encode_prompt
from jitune.objectives import build
from jitune.types import DataStats, Example, UserError


def prompt_row(example: Example) -> dict | None:
    """The prompt of an example as `generate` takes it: what comes before its last answer; None without one."""
    if example.text:
        return {"prompt": example.text[0][0]} if len(example.text) > 1 else None
    last = max((i for i, m in enumerate(example.messages) if m["role"] == "assistant"), default=0)
    if not last:
        return None
    row = {"messages": list(example.messages[:last])}
    return {**row, "tools": list(example.tools)} if example.tools else row


def choose_prompts(config, tokenizer) -> list[tuple[dict, list[int]]]:
    """The first `config.samples` prompts of the evaluation data, or of the training data without any."""
    data = config.data
    spec = sources.split_specs(data.eval or data.train)[0]
    rows = filter(None, map(prompt_row, read_examples(config, spec)))
    chosen = [(row, encode_prompt(tokenizer, row)) for row in itertools.islice(rows, config.samples)]
    if not chosen:
        raise UserError(f"config.sample_every is set, but {spec} has no example with a prompt")
    return chosen


def read_examples(config, spec: str) -> Iterator[Example]:
    """The examples of a source; of a preference one of its answers."""
    options = {"format": config.data.format, "fields": config.data.fields}
    if not build.compares(config):
        yield from pipeline.load_examples(spec, **options)
        return
    stats = DataStats()
    for record in pairs.read_preferences(spec, stats=stats, **options):
        yield from (side.example for side in pairs.as_answers(record, stats)[:1])


def write_samples(prompts, model, params, tokenizer, *, step: int, stop_ids, max_new_tokens: int, path: Path, say):
    """Answers the prompts greedily, appends them to samples.jsonl (path; None: do not), shows the first."""
    answers = generate(
        model, params, tokenizer, [tokens for _, tokens in prompts], max_new_tokens=max_new_tokens, stop_ids=stop_ids
    )
    if path is not None:
        lines = runlog.JsonLines(path, step=step - 1)
        for (row, _), answer in zip(prompts, answers, strict=True):
            lines.write({"step": step, **row, "text": answer.text, "finish_reason": answer.finish_reason})
        lines.close()
    say(f"step {step} sample: {' '.join(answers[0].text.split())[:200]!r}")
