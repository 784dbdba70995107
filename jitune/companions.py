"""What an objective needs beside the model that is tuned: a teacher on the same mesh, a reference to compare with.

    teacher = open_teacher(config)                       # its files are found, nothing is loaded
    model, params = load_teacher(teacher, mesh)          # sharded by the rules, in the dtype of the computation
    frozen = stand_beside(frozen, params)                # what the step and the evaluation take

    reference = choose_reference(config)                 # "", "adapter" or "stored"
    objective = make_objective(config, teacher=model, reference=base_model(config, tuning))

Neither is ever trained, or part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jitune import sharding, tree
from jitune import state as states
from jitune.hub import files, peft, weights
from jitune.hub.tokenizer import load_tokenizer
from jitune.models import decoder
from jitune.objectives import build
from jitune.transforms.build import is_adapter, parse_merges
from jitune.transforms.weights import base_of, over
from jitune.types import Beside, Model, Pretrained, UserError

CONFIG_FILES = ("config.json", "generation_config.json", "adapter_config.json")


class Teacher(NamedTuple):
    """A teacher's files. adapter: the directory of one on the base, or "". config: how a run computes with it."""

    path: str
    base: Path
    adapter: str
    config: Any


def open_teacher(config, *, patterns=None) -> Teacher | None:
    """The teacher that the config names, None where there is none. patterns: of what a hub's checkpoint is asked for.

    Raises UserError where it is not there or not understood.
    """
    path = config.objective.teacher
    if config.objective.name != "distill" or not path:
        return None
    try:
        if patterns:
            weights.resolve(path, patterns)
        base, adapter = peft.find_base(path)
        found = weights.read_config(base)
    except UserError as error:
        raise UserError(f"config.objective.teacher={path}: {error}") from None
    dtype = config.model.dtype
    return Teacher(path, base, adapter, found.replace(
        dtype=dtype, param_dtype=dtype, scan_layers=config.model.scan_layers, remat="none",
        attention=config.model.attention))  # fmt: skip


def check_teacher(teacher: Teacher, tokenizer, model_config, config) -> None:
    """Raises UserError where teacher and student do not share a vocabulary, or rows are beyond its context."""
    own = load_tokenizer(weights.resolve(teacher.adapter, peft.PATTERNS)) if teacher.adapter else None
    theirs = own or load_tokenizer(teacher.base)
    where = f"config.objective.teacher={teacher.path}"
    if theirs is not None and (found := differ(tokenizer.get_vocab(), theirs.get_vocab())):
        raise UserError(f"{where}: its vocabulary is not the student's, and its probabilities are of other tokens: "
                        f"{found}")
    if 0 < teacher.config.max_positions < config.seq_len:
        raise UserError(f"{where}: its context has {teacher.config.max_positions} tokens, config.seq_len is "
                        f"{config.seq_len}")


def differ(mine: dict[str, int], theirs: dict[str, int]) -> str:
    """In words, the first difference of two vocabularies; "" for none."""
    if mine == theirs:
        return ""
    for token, number in sorted(mine.items(), key=lambda item: item[1]):
        if theirs.get(token) != number:
            other = f"is {theirs[token]}" if token in theirs else "is not there"
            return f"{token!r} is {number} for the student and {other} for the teacher"
    return f"the teacher has {len(theirs)} tokens, the student {len(mine)}"


def digest(teacher: Teacher | None) -> str:
    """What tells a teacher from others; "" for none."""
    if teacher is None:
        return ""
    adapter = f"+{files.digest(weights.resolve(teacher.adapter, peft.PATTERNS))}" if teacher.adapter else ""
    return files.digest(teacher.base) + adapter


def load_teacher(teacher: Teacher, mesh) -> tuple[Model, Any]:
    """(model, params) of a teacher, laid out on the mesh; with an adapter the params are a pair."""
    model = decoder.build(teacher.config)
    params = weights.load_params(teacher.base, teacher.config, mesh)
    if not teacher.adapter:
        return model, params
    pretrained = Pretrained(model, params, load_tokenizer(teacher.base), teacher.config)
    opened = peft.open_adapters(pretrained, {"teacher": teacher.adapter}, base=teacher.base)["teacher"]
    return opened.model, opened.params


def abstract_teacher(teacher: Teacher, mesh) -> tuple[Model, Any]:
    """(model, params) with shapes in the place of arrays; an adapter, which is small, is left out."""
    shapes = weights.abstract_params(teacher.config)
    return decoder.build(teacher.config), states.lay(shapes, sharding.shardings(shapes, mesh))


def stand_beside(frozen, params):
    """The frozen part as the step takes it; params: of a teacher, None without one."""
    return frozen if params is None else Beside(frozen, params)


def describe(teacher: Teacher, params, kind: str) -> str:
    """A line about a teacher: "teacher qwen3-8b beside: 8,190,735,360 parameters, 15.3 GiB, forward KL"."""
    size = tree.count_bytes(params)
    size = f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
    return f"teacher {teacher.path} beside: {tree.count_params(params):,} parameters, {size}, frozen; {kind}"


def choose_reference(config) -> str:
    """Where log-probabilities of the reference come from: "adapter" (switched off), "stored", or "" for none.

    "auto" switches the adapter off where there is one, and stores where weights themselves are trained.
    """
    if not build.needs_reference(config):
        return ""
    chosen = config.objective.reference
    return ("adapter" if is_adapter(config.transform) else "stored") if chosen == "auto" else chosen


def base_model(config, tuning: states.Tuning) -> Model | None:
    """The model that was given, over (frozen, trainable) of which it sees the base alone; None where it is trained.

    It is the reference in both ways: with a prefix, a prompt or trained norms too, what was added is off.
    """
    if not is_adapter(config.transform):
        return None
    return over(lambda frozen, trainable, key: base_of(frozen), parse_merges(config.transform.merge_at))(tuning.plain)


class Company(NamedTuple):
    """What the objective of a run works with.

    objective, judged: of steps, and of evaluation. extras, judged_extras: arrays with an entry for each token of the
    training and of the evaluation data. others: configs of the models whose forward pass a step takes besides.
    """

    objective: Callable
    judged: Callable
    extras: dict[str, Any]
    judged_extras: dict[str, Any]
    others: tuple

    @property
    def windows(self) -> tuple:
        """Of the layers of all other models."""
        return tuple(w for config in self.others for w in config.windows)


def gather(config, tuning: states.Tuning, *, teacher: Teacher | None = None, model: Model | None = None,
           extras: dict | None = None, judged_extras: dict | None = None, vocab: int | None = None) -> Company:  # fmt: skip
    """Everything for the objective of the config; model: the teacher's. vocab: tokens of the tokenizer.

    Where a store has nothing of the evaluation data, these are judged by plain cross-entropy.
    """
    switched = choose_reference(config) == "adapter"
    reference = base_model(config, tuning) if switched else None
    sizes = {tuning.model_config.vocab_size, *([teacher.config.vocab_size] if teacher else [])}
    vocab = (vocab or min(sizes)) if len(sizes) > 1 else None  # one of the two has logits that no token has
    objective = build.make_objective(config, teacher=model, reference=reference, vocab=vocab)
    plain = bool(config.objective.store) and not judged_extras
    others = (teacher.config,) if teacher else (tuning.model_config,) if switched else ()
    return Company(objective, build.make_plain(config) if plain else objective, extras or {}, judged_extras or {},
                   others)  # fmt: skip


def abstract(config, tuning: states.Tuning, mesh, *, dtype: str = "") -> tuple[Company, Any]:
    """(the company of a run, a teacher's parameters or None), shapes in the place of arrays; no weight is read.

    dtype: in place of the config's, where it stands for another.
    """
    teacher, model, params = open_teacher(config, patterns=CONFIG_FILES), None, None
    if teacher:
        dtype = dtype or teacher.config.dtype
        teacher = teacher._replace(config=teacher.config.replace(dtype=dtype, param_dtype=dtype))
        model, params = abstract_teacher(teacher, mesh)
    stored = choose_reference(config) == "stored"
    kinds = build.entries(config, stored=stored, k=0)
    extras = {name: jax.ShapeDtypeStruct((0, *shape), dtype) for name, (shape, dtype) in kinds.items()
              if name != "sides"}  # fmt: skip
    return gather(config, tuning, teacher=teacher, model=model, extras=extras), params
