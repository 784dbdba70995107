"""Rows of a file of prompts: which model answers each, its tokens, and the answers in the rows' order.

    {"prompt": "The sea", "adapter": "poems"}    # one of the adapters that were given
    {"prompt": "The sea", "adapter": null}       # the base
    {"prompt": "The sea"}                        # the first adapter that was given, or the base where there is none
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jitune.generation.decode_loop import slots_in_front
from jitune.generation.prompts import check_prompt, default_stop_ids, encode_prompt
from jitune.limits import hint
from jitune.types import Pretrained, UserError

FIELDS = ("tokens", "text", "logprobs", "finish_reason")  # of an answer


def choose(row: dict, base: Pretrained, adapters: Mapping[str, Pretrained], where: str) -> Pretrained:
    """The model that a row asks for. Raises UserError, beginning with `where`, for an adapter that is not there."""
    name = row.get("adapter", next(iter(adapters), None))
    if name is None:
        return base
    if not isinstance(name, str) or name not in adapters:
        there = f"given are {', '.join(adapters)}, and null for the base" if adapters else "none was given (--adapter)"
        raise UserError(f"{where}: there is no adapter {name!r:.60}; {there}")
    return adapters[name]


def read_prompts(base: Pretrained, adapters: Mapping[str, Pretrained], path, chat_template: str | None,
                 fields: Sequence[str] = FIELDS):  # fmt: skip
    """Returns (rows, the model of each, token ids of each).

    fields: those that an answer will have. Raises UserError beginning with `file:row`.
    """
    from jitune.data.sources import read_rows

    rows, models, prompts = [], [], []
    taken_by = {id(m): slots_in_front(m.model) for m in (base, *adapters.values()) if m.model}
    for row, (file, number) in read_rows(str(path)):
        where = f"{file}:{number}"
        if taken := [name for name in fields if name in row]:
            raise UserError(f"{where}: the row has {', '.join(taken)} already; the answer would replace it")
        model = choose(row, base, adapters, where)
        if model.tokenizer is None:
            raise UserError("generate: the model has no tokenizer; put its files into the checkpoint directory")
        tokens = encode_prompt(model.tokenizer, row, chat_template=chat_template, where=where)
        limits = {"max_positions": model.config.max_positions, "taken": taken_by.get(id(model), 0)}
        check_prompt(tokens, where, vocab_size=model.config.vocab_size, more=hint(model.config), **limits)
        rows.append(row)
        models.append(model)
        prompts.append(tokens)
    return rows, models, prompts


def generate_each(generate: Callable, models: Sequence[Pretrained], prompts: Sequence[Sequence[int]], *,
                  stop_ids: Sequence[int] = (), chat_template: str | None = None, **options) -> list[Any]:  # fmt: skip
    """Answers prompts with the model of each, those of one model together; the answers in the prompts' order.

    generate: `generation.generate.generate`, or what takes the same. stop_ids: besides each model's own. A row's
    samples are seeded by its place, so they do not depend on the other rows' models.
    """
    groups: dict[int, list[int]] = {}
    for i, model in enumerate(models):
        groups.setdefault(id(model), []).append(i)
    found = {}
    for places in groups.values():
        model, params, tokenizer, config = models[places[0]]
        stops = (*default_stop_ids(tokenizer, config, chat_template=chat_template), *stop_ids)
        answers = generate(model, params, tokenizer, [prompts[i] for i in places], stop_ids=stops, row_ids=places,
                           max_positions=config.max_positions, **options)  # fmt: skip
        found.update(zip(places, answers, strict=True))
    return [found[i] for i in range(len(prompts))]
