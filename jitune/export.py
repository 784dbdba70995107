"""From a run's checkpoints to what others load: `jitune export --run DIR --to peft | merged | vllm --out DIR`.

    peft    OUT is the adapter in PEFT's layout
    merged  OUT is the whole model in Hugging Face layout (also called hf), adapters merged in float32, then cast
    vllm    OUT/adapter is a LoRA adapter as vLLM serves it: one rank for all, scale folded in, linear layers only;
            DoRA, saved modules, token rows, factors of embedding and head cannot be in it: OUT/base has them merged,
            as it has all of a family that vLLM serves without adapters (GPT-2)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jitune import checkpoint, rundir, sharding, structured
from jitune import state as states
from jitune.data import chat
from jitune.hub import adapter, files, peft, peft_config, weights
from jitune.hub.adapter import Factors, Parts
from jitune.hub.tokenizer import load_tokenizer
from jitune.models import decoder
from jitune.models.families import FAMILIES
from jitune.transforms.weights import base_of
from jitune.types import Pretrained, Transform, UserError

FORMS = ("peft", "merged", "hf", "vllm")
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class Trained(NamedTuple):
    """A checkpoint of a run: base (model, its parameters, tokenizer, config) and what was trained over it."""

    base: Pretrained
    name: str
    transform: Transform
    frozen: Any
    trainable: Any


def export(directory: str | Path, out: str | Path, *, to: str = "merged", step: str = "last",
           dtype: str = "float32") -> list[Path]:  # fmt: skip
    """Writes a checkpoint of a run in one of FORMS and returns the directories that were written.

    step: last, best (lowest eval loss), or a number. dtype: of the weights of whole models; adapters are float32.
    Raises UserError where the run, the checkpoint or a free output directory is missing, and for a form that what was
    trained does not have.
    """
    if to not in FORMS:
        raise UserError(f"--to {to}: known are {', '.join(FORMS)}")
    if dtype not in weights.DTYPES:
        raise UserError(f"dtype {dtype!r} is not supported; known are {', '.join(weights.DTYPES)}")
    run, out = open_run(Path(directory), step), Path(out)
    if to == "peft":
        digest = files.read_json(Path(directory) / "fingerprint.json")["model"]
        peft.save(out, run.base, run.transform, run.trainable, frozen=run.frozen, base=run.name, base_digest=digest)
        return [out]
    if to == "vllm":
        return export_vllm(run, out, dtype)
    if run.transform.merge is None:
        raise UserError(f"{directory}: a prefix or prompt cannot be merged into weights; export it with --to peft")
    save_model(out, run.base, run.transform.merge(run.frozen, run.trainable), dtype)
    return [out]


def open_run(directory: Path, step: str) -> Trained:
    """Loads a checkpoint of a run, its base in float32."""
    config = rundir.read_config(directory)
    if not (directory / "checkpoints").is_dir():
        raise UserError(f"{directory}: has no checkpoints yet")
    checkpoints = checkpoint.open_checkpoints(directory / "checkpoints", read_only=True)
    number = choose_step(checkpoints, step, directory)
    tokenizer, mesh = load_tokenizer(directory / "base"), sharding.make_mesh(1, -1, 1)
    config.model.dtype = "float32"  # merged in it, whatever the run computed in
    base = directory / "base" if config.transform.name == "full" else weights.resolve(config.model.path)
    tuning = states.make_tuning(config, weights.read_config(base), tokenizer)
    frozen, trainable = states.abstract_weights(tuning, mesh)
    if jax.tree.leaves(frozen):
        if files.digest(base) != files.read_json(directory / "fingerprint.json")["model"]:
            raise UserError(f"{base}: is not the model that the run in {directory} began with")
        frozen, _ = states.init_weights(tuning, base, mesh, config.seed, stored=True)
    trainable = checkpoint.restore_trainable(checkpoints, trainable, number)
    model = Pretrained(tuning.plain, base_of(frozen), tokenizer, tuning.model_config)
    return Trained(model, config.model.path, tuning.transform, frozen, trainable)


def save_model(out: Path, base: Pretrained, params, dtype: str) -> None:
    """Writes a whole model with float32 parameters, cast to dtype; what is in fewer bits is decoded."""
    params = jax.tree.map(lambda x: x.astype(dtype), structured.merge(params))
    config = with_stop_ids(base.config, base.tokenizer).replace(dtype=dtype, param_dtype=dtype)
    weights.save(out, Pretrained(decoder.build(config), params, base.tokenizer, config))


def export_vllm(run: Trained, out: Path, dtype: str) -> list[Path]:
    """Writes OUT/adapter, and OUT/base where the adapter cannot hold all that was trained."""
    parts = adapter.take(run.frozen, run.trainable, run.base.config)
    if parts.prefix is not None or parts.prompt is not None:
        raise UserError("vLLM serves neither prefixes nor prompts; export it with --to peft, or generate with jitune")
    tables = (adapter.embedding(run.base.config), peft_config.HEAD)
    served = not FAMILIES[run.base.config.family].conv1d  # vLLM has no LoRA for GPT-2, whose layers are Conv1D
    kept = {m: f for m, f in parts.factors.items() if served and f.magnitude is None and m not in tables}
    rest = parts._replace(factors={m: f for m, f in parts.factors.items() if m not in kept})
    if not kept:
        save_model(out / "base", run.base, run.transform.merge(run.frozen, run.trainable), dtype)
        return [out / "base"]
    folded, name, written = Parts(fold(kept), {}, {}), run.name, []
    if rest.factors or rest.saved or rest.rows:
        transform, frozen, trainable = adapter.build(rest, run.base)
        save_model(out / "base", run.base, transform.merge(frozen, trainable), dtype)
        name, written = str(out / "base"), [out / "base"]
    peft.write(out / "adapter", folded, run.base, base=name, rslora=False)
    return [*written, out / "adapter"]


def fold(factors: dict[str, Factors]) -> dict[str, Factors]:
    """Factors of one rank that vLLM knows, filled up with zeros, the scale in B: alpha = rank.

    Example: ranks 3 and 12 -> 16. Raises UserError for a rank that is too large.
    """
    largest = max(f.a.shape[1] for f in factors.values())
    rank = next((r for r in VLLM_RANKS if r >= largest), None)
    if rank is None:
        raise UserError(f"vLLM serves ranks up to {VLLM_RANKS[-1]}, and the adapter has {largest}; export it merged")

    def one(f: Factors) -> Factors:
        more = (0, rank - f.a.shape[1])
        return Factors(np.pad(f.a, ((0, 0), more)), np.pad(f.b * np.float32(f.scale), (more, (0, 0))), 1.0)

    return {module: one(f) for module, f in factors.items()}


def choose_step(checkpoints, step: str, directory: Path) -> int:
    """The number that `last`, `best` or a number stands for. Raises UserError where there is none."""
    steps = sorted(checkpoints.all_steps())
    if not steps:
        raise UserError(f"{directory}: has no whole checkpoint yet")
    best = checkpoint.best_step(checkpoints)
    if step == "best" and best is None:
        raise UserError(f"{directory}: no checkpoint was evaluated, so there is no best one")
    chosen = {"last": steps[-1], "best": best}.get(step, step)
    if str(chosen) not in map(str, steps):
        raise UserError(f"{directory}: has no checkpoint {step!r}; there are {', '.join(map(str, steps))}")
    return int(chosen)


def with_stop_ids(model_config, tokenizer):
    """The config with the stop ids that the chat template teaches in its generation config."""
    stops = chat.stop_token_ids(tokenizer, {"eos_token_id": list(model_config.eos_token_ids)})
    generation = {**model_config.generation_config, "eos_token_id": stops}
    return model_config.replace(generation=json.dumps(generation))
