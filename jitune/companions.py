"""What an objective needs beside the model that is tuned: a teacher on the same mesh, a reference to compare with.

    teacher = open_teacher(config)                       # its files are found, nothing is loaded
    model, params = load_teacher(teacher, mesh)          # sharded by the rules, in the dtype of the computation
    frozen = stand_beside(frozen, params)                # what the step and the evaluation take

    reference = choose_reference(config)                 # "", "adapter" or "stored"
    objective = make_objective(config, teacher=model, reference=base_model(config, tuning))

Neither is ever trained, or part of a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jitune import limits, sharding, tree
from jitune import state as states
from jitune.data import token_store
from jitune.hub import files, peft, weights
from jitune.hub.tokenizer import load_tokenizer
from jitune.hub.vocabulary import check_vocabulary, eos_note, vocabulary_digest
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
    """The teacher that a run distils from, None where there is none; see `find_teacher`."""
    asked = config.objective.name == "distill" and config.objective.teacher
    return find_teacher(config, patterns=patterns) if asked else None


def find_teacher(config, *, patterns=None) -> Teacher:
    """The teacher that the config names. patterns: of what a hub's checkpoint is asked for.

    Raises UserError where it is not there or not understood.
    """
    path = config.objective.teacher
    try:
        if patterns:
            weights.resolve(path, patterns)
        base, adapter = peft.find_base(path)
        found = weights.read_config(base)
    except UserError as error:
        raise UserError(f"config.objective.teacher={path}: {error}") from None
    dtype = config.model.dtype
    found = limits.lift(found, config.model.allow_longer_context, f"config.objective.teacher={path}")
    return Teacher(path, base, adapter, found.replace(
        dtype=dtype, param_dtype=dtype, scan_layers=config.model.scan_layers, remat="none",
        attention=config.model.attention))  # fmt: skip


def check_teacher(teacher: Teacher, tokenizer, model_config, config) -> tuple[int, str]:
    """(how many tokens teacher and student share, what is worth saying of them or "").

    Raises UserError where they do not share all of them, or where rows are longer than the teacher's context.
    """
    own = load_tokenizer(weights.resolve(teacher.adapter, peft.PATTERNS)) if teacher.adapter else None
    other, where = own or load_tokenizer(teacher.base), f"config.objective.teacher={teacher.path}"
    try:
        count = check_vocabulary(tokenizer, other, model_config, teacher.config)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    limits.check_length(config.seq_len, teacher.config, f"{where}: config.seq_len={config.seq_len}")
    return count, eos_note(tokenizer, other)


def digests(config, teacher: Teacher | None) -> dict[str, str]:
    """What tells a teacher, and a store, from others; "" for none. Raises UserError for a store that is none."""
    found = "-".join(identify(teacher).values()) if teacher else ""
    header = read_store(config)
    return {"teacher": found, "store": hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
            if header else ""}  # fmt: skip


def identify(teacher: Teacher) -> dict[str, str]:
    """Digests of a teacher's files: {"digest": of the base, "adapter": of an adapter, where it has one}."""
    found = {"digest": files.digest(teacher.base)}
    if teacher.adapter:
        state = hashlib.sha256()
        for file in sorted(weights.resolve(teacher.adapter, peft.PATTERNS).glob("adapter_*")):
            state.update(file.name.encode() + file.read_bytes())
        found["adapter"] = state.hexdigest()
    return found


def read_store(config) -> dict[str, Any]:
    """The header of the store that the config names; {} where it names none."""
    o = config.objective
    if o.name != "distill" or not o.store:
        return {}
    try:
        return token_store.read_header(Path(o.store).expanduser())
    except UserError as error:
        raise UserError(f"config.objective.store={o.store}: {error}") from None


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


class Store(NamedTuple):
    """Stored log-probabilities of a teacher, memory-mapped. evaluation: {} where there are none of that data. vocab:
    tokens that they are of."""

    training: dict[str, Any]
    evaluation: dict[str, Any]
    vocab: int


def open_store(config, data: dict[str, Any], tokenizer) -> Store | None:
    """The store that the config names, for the documents of {"train": Prepared, "eval": Prepared or None}.

    Those of the evaluation data are in its folder eval. None where the config names none. Raises UserError for one of
    other documents or of another vocabulary.
    """
    if not (header := read_store(config)):
        return None
    folder, vocabulary = Path(config.objective.store).expanduser(), vocabulary_digest(tokenizer)
    evaluation = {}
    try:
        training = token_store.open_store(folder, data["train"], vocabulary=vocabulary)
        if data["eval"] is not None and (folder / "eval").is_dir():
            evaluation = token_store.open_store(folder / "eval", data["eval"], vocabulary=vocabulary)
    except UserError as error:
        raise UserError(f"config.objective.store={config.objective.store}: {error}") from None
    return Store(training, evaluation, header["vocab"])


def stand_beside(frozen, params):
    """The frozen part as the step takes it; params: of a teacher, None without one."""
    return frozen if params is None else Beside(frozen, params)


def aim(config) -> str:
    """The objective and what it learns from: "distill, forward divergence from TEACHER"; "" for sft."""
    o = config.objective
    if o.name == "sft":
        return ""
    source = f", {o.divergence} divergence from {o.teacher or o.store}" if o.name == "distill" else ""
    reference = {"adapter": ", against the adapter switched off", "stored": ", against stored log-probabilities"}
    return o.name + source + reference.get(choose_reference(config), "")


def describe(config, company: Company, beside) -> str:
    """A line, with its end, on what the objective learns from; "" for sft.

    "distill, forward divergence from TEACHER: 8,190,735,360 parameters beside, frozen, 15.3 GiB"
    """
    o, found = config.objective, aim(config)
    if not found:
        return ""
    if o.teacher:
        size = tree.count_bytes(beside.other)
        words = f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
        found += f": {tree.count_params(beside.other):,} parameters beside, frozen, {words}"
    if o.on_policy:
        found += f"; {o.on_policy:.0%} of the steps on its own answers"
    plain = config.data.eval and company.judged is not company.objective
    judged = "; evaluation is plain cross-entropy" if plain else ""
    return f"{found}{judged}\n"


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
           extras: dict | None = None, judged_extras: dict | None = None, vocab: int | None = None,
           ) -> Company:  # fmt: skip
    """Everything for the objective of the config; model: the teacher's. vocab: tokens of the tokenizer.

    Where a store has nothing of the evaluation data, these are judged by plain cross-entropy.
    """
    switched = choose_reference(config) == "adapter"
    reference = base_model(config, tuning) if switched else None
    sizes = {tuning.model_config.vocab_size, *([teacher.config.vocab_size] if teacher else []), vocab} - {None}
    vocab = min(sizes) if len(sizes) > 1 else None  # a model has logits that no token has
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
    extras = {"reference_logprobs": jax.ShapeDtypeStruct((0,), "float32")} if stored else {}
    header = read_store(config)
    extras |= {name: jax.ShapeDtypeStruct((0, *spec["shape"]), spec["dtype"])
               for name, spec in header.get("arrays", {}).items()}  # fmt: skip
    return gather(config, tuning, teacher=teacher, model=model, extras=extras,
                  vocab=header.get("vocab")), params  # fmt: skip
