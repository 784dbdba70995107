"""Methods of self-improvement by name: how answers are asked for, what is made of them, and what is trained on it.

    recipe = resolve(config)        # METHODS["rft"] with what the config says otherwise
    recipe.samples, recipe.start    # 100, "base"

A method of one's own is `module:function`, see `makers.own`. Defaults are the published ones, where their authors say
them; those that are our choice are marked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jitune.construct.improve import makers
from jitune.options import PREFERENCES
from jitune.types import UserError


class Recipe(NamedTuple):
    """A method.

    Attributes:
      make: `(given, problems) -> Chosen`, see `makers`.
      samples, temperature, top_p, top_k: of the answers to a prompt; temperature 0 is greedy, top_k 0 is all tokens.
      keep: answers to a prompt that are drawn of those that could be kept; 0: the method draws none.
      start: base | last. pool: none | previous | all. own_answers: whether the prompts' own answers are trained on.
      objective, learning_rate: of the training; objective is sft, or dpo where the method makes pairs.
      checks: whether a verifier is needed. reads: whether one that reads answers is. answered: whether the prompts
        need answers of their own. judges: whether a judge is asked.
      source: who published it.
    """

    make: makers.Maker
    samples: int = 1
    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    keep: int = 0
    start: str = "base"
    pool: str = "none"
    own_answers: bool = False
    objective: str = "sft"
    learning_rate: float = 2e-5
    checks: bool = False
    reads: bool = False
    answered: bool = False
    judges: bool = False
    source: str = ""


METHODS = {
    # On the data and the paths, from the base: D_0 + D_1 + ...
    "rft": Recipe(makers.rft, samples=100, pool="all", own_answers=True, checks=True,
                  source="Yuan et al. 2023, arXiv:2308.01825"),
    "star": Recipe(makers.star, temperature=0.0, checks=True,
                   source="Zelikman et al. 2022, arXiv:2203.14465"),
    "rest_em": Recipe(makers.rest_em, samples=32, top_k=40, keep=10, checks=True,
                      source="Singh et al. 2023, arXiv:2312.06585"),
    "lmsi": Recipe(makers.lmsi, samples=32, reads=True, source="Huang et al. 2022, arXiv:2210.11610"),
    "spin": Recipe(makers.spin, temperature=1.0, start="last", pool="previous", objective="dpo", learning_rate=5e-7,
                   answered=True, source="Chen et al. 2024, arXiv:2401.01335"),
    "self_rewarding": Recipe(makers.self_rewarding, samples=4, top_p=0.9, start="last", objective="dpo",
                             learning_rate=1e-6, judges=True, source="Yuan et al. 2024, arXiv:2401.10020"),
    # Its authors' temperature; one critique and one revision, and all rounds pooled, are our choice.
    "constitutional": Recipe(makers.constitutional, temperature=1.0, pool="all",
                             source="Bai et al. 2022, arXiv:2212.08073"),
}


def resolve(config: Any) -> Recipe:
    """The method of a config with the options that are given. Raises UserError for what cannot work together."""
    recipe = find(config.method)
    given = config.sampling
    if given.samples:
        recipe = recipe._replace(samples=given.samples)
    if given.temperature >= 0:
        recipe = recipe._replace(temperature=given.temperature)
    if given.top_p >= 0:
        recipe = recipe._replace(top_p=given.top_p)
    if given.top_k >= 0:
        recipe = recipe._replace(top_k=given.top_k)
    if given.keep:
        recipe = recipe._replace(keep=given.keep)
    recipe = recipe._replace(start=config.start or recipe.start, pool=config.pool or recipe.pool)
    if config.own_answers:
        recipe = recipe._replace(own_answers=config.own_answers == "yes")
    recipe = recipe._replace(objective=config.train.objective.name or recipe.objective,
                             learning_rate=config.train.optimizer.learning_rate or recipe.learning_rate)
    _check(config, recipe)
    return recipe


def find(method: str) -> Recipe:
    """The method of a name, or of one's own `module:function`. Raises UserError for another."""
    if method in METHODS:
        return METHODS[method]
    if ":" not in method:
        raise UserError(f"config.method={method!r} is not known; known are {', '.join(METHODS)}, and module:function "
                        "of your own")
    return Recipe(makers.own(method), pool="all", source=method)


def makes_pairs(recipe: Recipe) -> bool:
    """Whether what is trained on are pairs of answers, or answers with labels."""
    return recipe.objective in PREFERENCES


def _check(config: Any, recipe: Recipe) -> None:
    name = config.method
    published = METHODS.get(name)
    if published and makes_pairs(published) != makes_pairs(recipe):
        pairs = f"pairs of answers, for {', '.join(PREFERENCES)}"
        what = pairs if makes_pairs(published) else "answers, for sft or distill"
        raise UserError(f"config.train.objective.name={recipe.objective!r}: {name} makes {what}")
    if config.sampling.keep and not (published and published.keep):
        raise UserError(f"config.sampling.keep={config.sampling.keep}: {name} keeps all that it chooses; rest_em draws "
                        "of them")
    if recipe.own_answers and makes_pairs(recipe):
        raise UserError("config.own_answers=yes: answers without another beside them cannot be among pairs")
    if recipe.checks and not config.verifier.name:
        raise UserError(f"config.method={name} needs config.verifier.name, which tells right answers from wrong ones")
    if recipe.reads and not config.verifier.name:
        raise UserError(f"config.method={name} needs config.verifier.name, which reads what an answer comes to")
    if recipe.samples > 1 and recipe.temperature == 0:
        raise UserError(f"config.sampling.samples={recipe.samples} with temperature 0: greedy answers are all alike")
    if name == "self_rewarding" and recipe.samples < 2:
        raise UserError("config.sampling.samples=1: self_rewarding compares at least 2 answers")
    if config.train.transform.name in ("prefix", "prompt") and recipe.start == "last" and config.rounds > 1:
        raise UserError(f"config.train.transform.name={config.train.transform.name}: cannot be merged into the weights "
                        "that the next round starts from; give config.start=base")
