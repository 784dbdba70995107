"""The model of now: opened when it is asked for, one at a time, and put away before training needs the memory.

    models = Models(config)
    generator = models.open("out/round-1/train/final", name="tiny, round 1", cache="out/round-2/generations.jsonl")
    models.release()

Models of one shape share one `Model` object, so that what is compiled for the first is there for all rounds.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jitune.generators.call import Generator
from jitune.generators.local import identify
from jitune.generators.open import open_generator
from jitune.types import Pretrained

Spent = tuple[float, int]  # money and tokens


class Models:
    """See above. Attributes: pretrained: the model that is open, or None."""

    def __init__(self, config: Any, say: Callable[[str], None] | None = None):
        self.config, self.say = config, say
        self.path, self.pretrained, self.made = "", None, {}

    def load(self, path: str | Path) -> Pretrained:
        """The model of a directory, or of an adapter over its base; whatever else was open is put away first."""
        from jitune import sharding
        from jitune.generation.decode_loop import slots_in_front
        from jitune.hub import peft, weights

        if self.path == str(path):
            return self.pretrained
        self.release()
        base, adapter = peft.find_base(str(path))
        mesh = sharding.make_mesh(**self.config.train.mesh)
        found = weights.load(base, dtype=self.config.generator.dtype, mesh=mesh)
        found = found._replace(model=self._known(found, 0))
        if adapter:
            found = peft.open_adapters(found, {"adapter": adapter}, base=base)["adapter"]
            found = found._replace(model=self._known(found, slots_in_front(found.model)))
        self.path, self.pretrained = str(path), found
        return found

    def _known(self, found: Pretrained, taken: int) -> Any:
        """The `Model` that was opened first of this shape: a model is one function of its arrays."""
        import jax

        form = jax.tree.structure(found.params), taken, found.config.replace(hf="{}", generation="{}")
        return self.made.setdefault(form, found.model)

    def open(self, path: str | Path, *, name: str, cache: str | Path, spent: Spent = (0.0, 0)) -> Generator:
        """Who answers for data: the model in `path`, or what the section `generator` names.

        name: of the model, for provenance. spent: by earlier rounds.
        """
        if names_one(self.config.generator):
            return open_generator(left(self.config.generator, spent), cache=cache, say=self.say)
        return self.open_own(path, name=name, cache=cache)

    def open_judge(self, path: str | Path, *, name: str, cache: str | Path, spent: Spent = (0.0, 0)) -> Generator:
        """Who judges: the model in `path`, or what the section `judge` names."""
        if names_one(self.config.judge):
            return open_generator(left(self.config.judge, spent), cache=cache, say=self.say)
        return self.open_own(path, name=name, cache=cache)

    def open_own(self, path: str | Path, *, name: str, cache: str | Path) -> Generator:
        """The model in `path`, with the options of the section `generator`."""
        section = {**self.config.generator.to_dict(), "model": name, "base_url": "", "replay": "", "budget": 0.0,
                   "token_budget": 0}  # fmt: skip
        return open_generator(section, cache=cache, pretrained=self.load(path), digest=self.digest(path), say=self.say)

    def digest(self, path: str | Path) -> str:
        """Of weights, adapter and tokenizer."""
        from jitune.hub import peft

        base, adapter = peft.find_base(str(path))
        return identify(base, Path(adapter) if adapter else None)

    def release(self) -> None:
        """Puts the model away."""
        self.path, self.pretrained = "", None
        gc.collect()


def names_one(section: Any) -> bool:
    """Whether a section of a generator names who answers."""
    return bool(section.model or section.base_url or section.replay)


def left(section: Any, spent: Spent) -> dict[str, Any]:
    """A section with what is left of its budgets, of all rounds; one that is spent lets nothing through."""
    found = section.to_dict()
    for name, gone, least in (("budget", spent[0], 1e-12), ("token_budget", spent[1], 1)):
        if found[name]:
            found[name] = max(found[name] - gone, least)
    return found
