"""Models that score data, opened once for all stages of a run.

    engine = open_scorer("models/small", dtype="float32", max_length=1024)
    engine.score_tokens([([1, 5, 6], [7, 8])])          # see `evals.engine.engine`

A path is a checkpoint in Hugging Face layout, a run of jitune, or an adapter that names its base. Its weights are read
once for all stages of equal dtype and mesh; engines of different lengths share them, and the compiled programs of equal
shapes too.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jitune.types import Pretrained, UserError

MESH = (1, -1, 1)  # data, fsdp, tensor: all devices that are here


def open_scorer(model: Any, *, dtype: str = "float32", max_length: int = 0, usual: int = 8192,
                mesh: Sequence[int] = MESH) -> Any:  # fmt: skip
    """The engine of a model.

    model: a path, a `Pretrained`, or an Engine, which is given back as it is. max_length: the most tokens of a text;
    more than the model's context is an error, and 0 is `usual`, or the context where that is less. mesh: devices along
    data, fsdp and tensor; of a path only. Raises UserError for what cannot be loaded, or has no tokenizer.
    """
    from jitune.evals.engine.engine import Engine, open_engine

    if isinstance(model, Engine):
        return model
    if isinstance(model, Pretrained):
        return open_engine(model, max_length=max_length or _most(model, usual))
    return _open(str(model), dtype, max_length, usual, tuple(mesh), _stamp(model))


def _most(pretrained: Pretrained, usual: int) -> int:
    """`usual`, as far as the model's context goes."""
    return min(usual, pretrained.config.max_positions or usual)


def check_model(model: Any, stage: str) -> None:
    """Refuses a model that is plainly none, without loading anything. Raises UserError naming the stage."""
    if isinstance(model, str | Path):
        path = Path(model).expanduser()
        if not str(model):
            raise UserError(f"{stage}: needs a model: model=PATH, such as one made by `jitune init`")
        hub_name = str(model).count("/") == 1 and not str(model).startswith((".", "/", "~"))
        if not path.is_dir() and (path.exists() or not hub_name):
            raise UserError(f"{stage}: model={str(model)!r} is no directory of a model")


def load_function(spec: str, what: str) -> Callable:
    """The function of `module:function`, whose errors are UserErrors that name it. Raises UserError for none."""
    module, _, name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{what}: no function {spec!r}: {error}") from error
    if not callable(found):
        raise UserError(f"{what}: {spec!r} is not a function")

    def call(given: Any) -> Any:
        try:
            return found(given)
        except (UserError, MemoryError):
            raise
        except Exception as error:
            raise UserError(f"{what}: {spec} failed: {type(error).__name__}: {error}") from error

    return call


def _stamp(path: Any) -> tuple:
    """Changes when the files of a local model do, so that a model written anew is read anew."""
    found = Path(path).expanduser()
    return tuple(sorted((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in found.glob("*") if p.is_file()))


@functools.lru_cache(maxsize=8)
def _open(path: str, dtype: str, max_length: int, usual: int, mesh: tuple[int, ...], stamp: tuple) -> Any:
    from jitune.evals.engine.engine import open_engine

    pretrained = _load(path, dtype, mesh, stamp)
    return open_engine(pretrained, max_length=max_length or _most(pretrained, usual))


@functools.lru_cache(maxsize=2)
def _load(path: str, dtype: str, mesh: tuple[int, ...], stamp: tuple) -> Pretrained:
    """The model with its adapter applied. stamp: see `_stamp`; part of the key only."""
    from jitune import compile_cache, sharding
    from jitune.hub import peft, weights

    compile_cache.use_cache()
    if len(mesh) != 3:
        raise UserError(f"mesh={list(mesh)} must be three sizes: data, fsdp, tensor")
    base, adapter = peft.find_base(path)
    pretrained = weights.load(base, dtype=dtype, mesh=sharding.make_mesh(*mesh))
    if pretrained.tokenizer is None:
        raise UserError(f"{path}: has no tokenizer, and texts are scored by tokens; put its files beside its weights")
    if adapter:
        pretrained = peft.open_adapters(pretrained, {"adapter": adapter}, base=base)["adapter"]
    return pretrained
