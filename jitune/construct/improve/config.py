"""The configuration of `jitune improve`: one file drives all rounds.

    config = from_words("improve", ["--config.model.path=DIR", "--config.prompts=train.jsonl"])
    check(config)

`method` names how answers become data (see `methods.METHODS`), or is your own `module:function`. An option that is left
at "", -1 or 0, where its comment says so, is as the method's authors published it. The sections `generator`, `judge`,
`curate`, `train` and `evals` are those of the other commands.
"""

from __future__ import annotations

import re
from typing import Any

from ml_collections import ConfigDict

from jitune import config as training
from jitune.construct.curate import config as curation
from jitune.construct.improve import stopping
from jitune.construct.verify import table as verifiers
from jitune.generators import open as generators
from jitune.types import UserError

COMMAND = "improve"
# What a round sets itself, of the sections of other commands.
OWN_TRAIN = ("model.path", "data.train", "output_dir")
OWN_CURATE = ("input", "format", "fields", "reader", "license", "method", "limit", "output_dir", "name", "seed")
CHOICES = {"start": ("", "base", "last"), "pool": ("", "none", "previous", "all"), "own_answers": ("", "yes", "no"),
           "export": ("last", "best")}  # fmt: skip


def defaults() -> ConfigDict:
    """Every option of `jitune improve`."""
    return ConfigDict({
        "model": {"path": ""},  # what is improved: a checkpoint directory in Hugging Face layout, or a hub name
        "method": "rft",  # rft | star | rest_em | lmsi | spin | self_rewarding | constitutional | module:function
        "rounds": 2,
        "start": "",  # each round trains: base (the model above) | last (that of the round before); "": the method's
        "pool": "",  # trained on: none (this round's data) | previous (and the round's before) | all; "": the method's
        "own_answers": "",  # yes | no: the prompts' own answers are trained on too; "": the method's
        "export": "last",  # which model final/ is: last | best (by held-out accuracy, the first model included)
        "prompts": "",  # files, folders or hub names, joined by commas; with the right answers, where they are checked
        "heldout": "",  # problems that no round learns from, answered greedily after each
        "format": "auto",  # of prompts and heldout
        "fields": "",  # "instruction=question,output=answer": other column names
        "limit": 0,  # prompts; 0: all
        "per_round": 0,  # prompts that are drawn for each round; 0: all
        "heldout_limit": 0,
        "verifier": {  # whether an answer is right; each has a section of its options
            "name": "",  # math | code | constraints | exact | module:function
            "options": "",  # of one's own: "a=1,b=x"
            **verifiers.defaults(),
        },
        "sampling": {
            "samples": 0,  # answers to a prompt; 0: the method's
            "temperature": -1.0,  # 0: greedy; -1: the method's
            "top_p": -1.0,  # -1: the method's
            "top_k": -1,  # 0: all tokens; -1: the method's
            "max_tokens": 512,  # of an answer
            "keep": 0,  # of rest_em: answers to a prompt that are kept, at most; 0: the method's
        },
        "judging": {  # of self_rewarding
            "times": 3,  # that an answer is judged; the mean counts
            "temperature": 1.0,
            "max_tokens": 512,
            "anchors": 16,  # answers of the first round that are judged again in each, for drift
        },
        "principles": "",  # of constitutional: a JSON list or JSONL of sentences, or {name, critique, revision}
        "revisions": 1,  # of constitutional: critiques and revisions of an answer, each by another principle
        "generator": generators.defaults(),  # who answers, where it is not the model itself
        "judge": generators.defaults(),  # who judges, where it is not the model itself
        "curate": _curate(),  # what is made goes through these stages, none by default
        "train": _train(),
        "evals": training.defaults().evals.to_dict(),  # a suite after each round, besides
        "limits": dict(stopping.LIMITS),  # what stops the rounds; a negative number switches one off
        "seed": 0,
        "output_dir": "",
    })


def _train() -> dict[str, Any]:
    """The options of `jitune train`, some of which are the method's unless they are given."""
    config = training.defaults()
    config.optimizer.learning_rate = 0.0  # the method's
    config.objective.name = ""  # the method's: sft, or dpo where it makes pairs
    config.loggers = ""
    del config.evals
    return config.to_dict()


def _curate() -> dict[str, Any]:
    return {name: value for name, value in curation.defaults().to_dict().items() if name not in OWN_CURATE}


def widen(config: ConfigDict) -> None:
    """Adds the sections of curation's stages of one's own."""
    curation.widen(config.curate)


def from_words(file: str | None, words: list[str]) -> ConfigDict:
    """The config file or recipe with `--config.NAME=VALUE` applied. Raises UserError as `jitune.config` does."""
    return training.from_words(file, words, make=defaults, command=COMMAND, widen=widen)


def within(section: str, message: str) -> str:
    """What another command says of its options, of which a section here consists: config.x -> config.SECTION.x."""
    return re.sub(rf"\bconfig\.(?!{section}\.)(?=\w)", f"config.{section}.", message)


def check(config: ConfigDict) -> None:
    """Refuses values that cannot work, before anything is read. Raises UserError."""
    flat = training.flatten(config)
    for name in ("model.path", "prompts", "output_dir"):
        if not flat[name]:
            raise UserError(f"config.{name} is not set; give it in the config file or as --config.{name}=...")
    for name, allowed in CHOICES.items():
        if flat[name] not in allowed:
            known = ", ".join(filter(None, allowed))
            raise UserError(f"config.{name}={flat[name]!r} is not known; known are {known}")
    for name, least in (("rounds", 1), ("limit", 0), ("per_round", 0), ("heldout_limit", 0), ("sampling.samples", 0),
                        ("sampling.keep", 0), ("sampling.max_tokens", 1), ("sampling.top_k", -1), ("judging.times", 1),
                        ("judging.max_tokens", 1), ("judging.anchors", 0), ("revisions", 1)):  # fmt: skip
        if flat[name] < least:
            raise UserError(f"config.{name}={flat[name]} must be at least {least}")
    for name in ("sampling.temperature", "sampling.top_p"):
        if flat[name] < 0 and flat[name] != -1:
            raise UserError(f"config.{name}={flat[name]} must not be negative; -1 stands for the method's")
    if 0 <= flat["limits.length"] < 1:
        raise UserError(f"config.limits.length={flat['limits.length']} must be at least 1, or negative for no limit")
    for name in OWN_TRAIN:
        if flat[f"train.{name}"]:
            raise UserError(f"config.train.{name}={flat[f'train.{name}']!r}: each round sets it itself; leave it out")
    for who in ("generator", "judge"):
        adapter = flat[f"{who}.adapter"]
        if adapter and not flat[f"{who}.model"]:
            raise UserError(f"config.{who}.adapter={adapter}: is of config.{who}.model, which is not set")
    if config.export == "best" and not config.heldout:
        raise UserError("config.export=best needs config.heldout")
    if config.heldout and not config.verifier.name:
        raise UserError("config.heldout needs config.verifier.name, which tells right answers from wrong ones")
