"""A training run's configuration: every option with its default, read from Python files, checked once.

A config file has `get_config() -> ConfigDict` and starts from `defaults()`; the command line overrides
single values, `--config.optimizer.learning_rate=2e-5`. The resolved config is saved with the run.
Other commands read theirs the same way, from defaults of their own.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable

from ml_collections import ConfigDict, config_dict

from jitune import recipes
from jitune.types import UserError

CHOICES = {
    "model.dtype": ("float32", "bfloat16"),
    "model.remat": ("none", "full", "dots", "dots_no_batch"),
    "model.attention": ("auto", "plain", "blocks", "cudnn"),
    "data.overlong": ("truncate", "drop", "split"),
    "data.train_on": ("assistant", "last", "all"),
    "objective.name": ("sft", "distill", "dpo", "simpo", "orpo", "kto"),
    "objective.loss": ("sigmoid", "hinge", "ipo", "robust"),
    "objective.reference": ("auto", "adapter", "stored"),
    "objective.divergence": ("forward", "reverse", "jsd"),
    "optimizer.name": ("adamw", "adafactor", "lion", "muon"),
    "optimizer.schedule": ("cosine", "linear", "constant", "wsd"),
    "transform.name": ("full", "lora", "dora", "prefix", "prompt", "select"),
    "transform.quantize": ("", "nf4", "int8"),
    "transform.dtype": ("float32", "bfloat16"),
    "export": ("last", "best"),
}
POSITIVE = ("seq_len", "batch_size", "microbatches", "loss_chunk", "data.packing_bins")


def defaults() -> ConfigDict:
    """Every option of `jitune train`. Lengths are in tokens, sizes in rows, periods in optimizer steps."""
    return ConfigDict({
        "model": {
            "path": "",  # a checkpoint directory in Hugging Face layout, or a hub name
            "dtype": "float32",  # of the computation; the trained weights are float32
            "scan_layers": True,  # one compiled layer (fast to compile) or all unrolled
            "remat": "none",  # none | full | dots | dots_no_batch
            "attention": "auto",  # auto | plain | blocks (of queries) | cudnn
        },
        "data": {
            "train": "",  # files, directories or hub names, joined by commas
            "eval": "",
            "weights": "",  # "0.7,0.3": mix the sources by weight; "": concatenate them
            "format": "auto",
            "fields": "",  # "instruction=question,output=answer": other column names
            "add_tokens": "",  # new tokens, joined by commas, that the vocabulary grows by
            "chat_template": "",  # a jinja file, or chatml | alpaca; "": the tokenizer's own
            "train_on": "assistant",  # assistant | last | all
            "split_turns": False,  # one example for each assistant turn
            "overlong": "truncate",  # truncate | drop | split
            "packing": True,
            "packing_bins": 64,
            "shuffle": True,
            "prefetch": 4,  # batches prepared ahead
        },
        "seq_len": 2048,
        "batch_size": 8,  # rows of seq_len in one optimizer step, over all devices
        "microbatches": 1,  # parts that a batch is computed in
        "steps": 0,  # optimizer steps; 0: as many as `epochs` take
        "epochs": 1.0,
        "seed": 0,
        "loss_chunk": 1024,  # tokens whose logits exist at once
        "neftune_alpha": 0.0,
        "objective": {
            "name": "sft",  # sft | distill | dpo | simpo | orpo | kto
            "beta": 0.1,  # dpo, simpo, orpo, kto: how strongly answers are told apart
            "loss": "sigmoid",  # of dpo: sigmoid | hinge | ipo | robust
            "length_normalized": False,  # dpo: log-probabilities a token
            "label_smoothing": 0.0,  # dpo: the share of pairs that may be the wrong way round
            "gamma": 0.5,  # simpo: the margin, as a part of beta
            "wanted_weight": 1.0,  # kto: of answers that are wanted
            "unwanted_weight": 1.0,  # kto
            "nll_weight": 0.0,  # of the wanted answer's cross-entropy a token, besides
            "reference": "auto",  # auto | adapter (switched off) | stored (computed before the first step)
            "teacher": "",  # distill: a model that is run beside the student
            "store": "",  # distill: a folder that `jitune data teacher` has written, in place of the teacher
            "divergence": "forward",  # distill: forward | reverse | jsd
            "jsd_beta": 0.5,  # of jsd, the teacher's part in the mixture: 0 is forward, 1 is reverse
            "temperature": 1.0,  # distill: of both models
            "sft_weight": 0.0,  # distill: of the cross-entropy with the data; the divergence has 1 - sft_weight
            "on_policy": 0.0,  # distill: the share of steps whose answers the student writes itself (GKD's lambda)
            "max_new_tokens": 128,  # of those answers
            "sampling_temperature": 1.0,
        },
        "optimizer": {
            "name": "adamw",  # adamw | adafactor | lion | muon
            "learning_rate": 2e-5,
            "schedule": "cosine",  # cosine | linear | constant | wsd
            "warmup_steps": 0,
            "warmup_ratio": 0.03,  # of all steps, where warmup_steps is 0
            "decay_ratio": 0.1,  # the part of all steps in which wsd decays
            "final_ratio": 0.0,  # the learning rate at the end, as a part of the highest
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "clip_norm": 1.0,  # 0: no clipping
            "lora_plus": 1.0,  # learning rate of LoRA's B factors, times that of all else
        },
        "transform": {  # patterns are regular expressions that are looked for in paths: layers/attn/q_proj/kernel
            "name": "full",  # full | lora | dora | prefix | prompt | select
            "select": "",  # weights with factors, or those that name=select trains; "": all linear layers but the head
            "rank": 16,
            "alpha": 32.0,
            "rank_pattern": "",  # "q_proj=8,v_proj=4": other ranks
            "alpha_pattern": "",
            "rslora": False,  # scale by alpha / sqrt(rank)
            "dropout": 0.0,
            "init": "",  # factors: kaiming | gaussian | pissa | olora; prefix, prompt: random | zero | text
            "dtype": "float32",  # of the factors
            "merge_at": "",  # "PRIMITIVE:PATTERN": where a weight may be made dense
            "quantize": "",  # the frozen weights: nf4 | int8
            "quantize_select": "",  # which; "": all linear layers but the head
            "train": "",  # weights that are trained as they are, besides
            "num_tokens": 16,  # of a prefix or a prompt
            "init_text": "",  # for init=text
            "projection": 0,  # of a prefix: the hidden size of an MLP that makes it; 0: none
        },
        "mesh": {"data": 1, "fsdp": -1, "tensor": 1},
        "keep_pages": True,  # on CPU: freed memory is kept for the next step, which is faster and takes more of it
        "eval_every": 0,  # 0: at the end only
        "eval_batches": 0,  # 0: all
        "patience": 0,  # evaluations without a better loss before stopping; 0: never
        "export": "last",  # which weights final/ holds: last | best
        "sample_every": 0,
        "samples": 4,
        "sample_tokens": 64,
        "evals": {  # tasks of `jitune eval`, on the model as it is; metrics that need a judge are left out
            "suite": "",  # of utility, faithfulness, safety, joined by commas
            "tasks": "",  # tasks by name, joined by commas
            "data": "",  # folders with the files of tasks, joined by commas
            "every": 0,  # 0: at the end only
            "limit": 100,  # documents of a task; 0: all
            "seed": 0,  # of the documents that are drawn
            "batch_size": 8,  # answers generated at once
            "max_length": 0,  # tokens; 0: the model's context
        },
        "checkpoint_every": 0,  # 0: at the end only
        "keep": 2,  # the newest checkpoints kept, the best one besides
        "loggers": "tensorboard",  # of tensorboard, wandb, trackio, joined by commas
        "run_name": "",
        "output_dir": "",
    })


def _as_they_are(config: ConfigDict) -> None:
    """Training has the same options whatever their values."""


def read(name: str, *, make: Callable[[], ConfigDict] = defaults, command: str = "train",
         widen: Callable[[ConfigDict], None] = _as_they_are) -> ConfigDict:
    """Runs a config file, given by its path or as the name of a recipe (see `recipes`).

    Args:
      make: gives every option with its default; the result is that with what the file's `get_config()` sets.
      command: whose config it must be.
      widen: adds the options that the values of others ask for.

    Raises UserError if it fails.
    """
    path = recipes.find(name, command)
    try:
        config = runpy.run_path(str(path))["get_config"]()
    except KeyError as error:
        reason = "has no get_config()" if error.args == ("get_config",) else str(error.args[0])
        raise UserError(f"{path}: {reason}") from error
    except UserError:
        raise
    except Exception as error:  # whatever the user's file raises
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error
    whole = make()
    known = _paths(whole)
    try:
        whole.update({name: config[name] for name in config if name in known})
        widen(whole)
        unknown = _paths(config) - _paths(whole)
        if unknown:
            raise UserError(f"{path}: {_no_such_option(sorted(unknown)[0], _paths(whole))}")
        whole.update(config)
    except TypeError as error:
        raise UserError(f"{path}: a value has the wrong type: {error}") from None
    return whole


def from_words(file: str | None, words: list[str], *, make: Callable[[], ConfigDict] = defaults,
               command: str = "train", widen: Callable[[ConfigDict], None] = _as_they_are) -> ConfigDict:
    """The config file or recipe (None: `make()`) with `--config.NAME=VALUE` and `--config.NAME VALUE` applied.

    Raises UserError as `read` and `override` do, and for words that are no option.
    """
    config = read(file, make=make, command=command, widen=widen) if file else make()
    rest = iter(words)
    for word in rest:
        if not word.startswith("--config."):
            raise UserError(f"{word}: unknown argument; options are given as --config.NAME=VALUE")
        name, equals, value = word.removeprefix("--config.").partition("=")
        if not equals:
            value = next(rest, None)
            if value is None:
                raise UserError(f"{word}: a value is needed")
        override(config, name, value)
        widen(config)
    return config


def override(config: ConfigDict, name: str, text: str) -> None:
    """Sets one option from its text on the command line; the type is that of the value it replaces.

    Raises UserError for an option that does not exist (naming the nearest) or a value of another type.
    """
    known = _paths(config)
    if name not in known:
        raise UserError(_no_such_option(name, known))
    parent, _, key = name.rpartition(".")
    node = config
    for part in parent.split(".") if parent else ():
        node = node[part]
    node[key] = _parse(name, text, node[key])


def _parse(name: str, text: str, old):
    kind = type(old)
    try:
        if old is None:
            return _guessed(text)
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        raise UserError(f"--config.{name}={text}: a value of type {kind.__name__} is needed, such as {old!r}") from None


def _guessed(text: str) -> int | float | str | None:
    """A value in place of None, which says nothing of its type."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None if text.lower() in ("", "none") else text


def _no_such_option(name: str, known: set[str]) -> str:
    import difflib

    known = sorted(known)
    tails = {k.rpartition(".")[2]: k for k in known}
    near = difflib.get_close_matches(name, known, 3, 0.5)
    near += [tails[t] for t in difflib.get_close_matches(name.rpartition(".")[2], tails, 2, 0.7)]
    near = list(dict.fromkeys(near))[:3]
    return f"there is no option config.{name}" + (f"; the nearest are {', '.join(near)}" if near else "")


def _paths(config: ConfigDict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in config.items():
        found |= _paths(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else {prefix + key}
    return found


def check(config: ConfigDict, *, needed=("model.path", "data.train", "output_dir")) -> None:
    """Refuses values that cannot work, before anything is loaded. Raises UserError.

    needed: options without which a run cannot be; planning one asks for none of them.
    """
    flat = flatten(config)
    for name in needed:
        if not flat[name]:
            raise UserError(f"config.{name} is not set; give it in the config file or as --config.{name}=...")
    for name, allowed in CHOICES.items():
        if flat[name] not in allowed:
            raise UserError(f"config.{name}={flat[name]!r} is not known; known are {', '.join(allowed)}")
    for name in POSITIVE:
        if flat[name] < 1:
            raise UserError(f"config.{name}={flat[name]} must be at least 1")
    if flat["steps"] < 0 or (flat["steps"] == 0 and flat["epochs"] <= 0):
        raise UserError("config.steps or config.epochs must be positive")
    if flat["batch_size"] % flat["microbatches"]:
        raise UserError(f"config.batch_size={flat['batch_size']} does not divide by "
                        f"config.microbatches={flat['microbatches']}")
    if (flat["patience"] or flat["export"] == "best") and not (flat["data.eval"] and flat["eval_every"]):
        raise UserError("config.patience and config.export=best need config.data.eval and config.eval_every")


def flatten(config: ConfigDict) -> dict:
    """{"data.train": ..., ...}."""
    return {name: _get(config, name) for name in sorted(_paths(config))}


def _get(config, name):
    for part in name.split("."):
        config = config[part]
    return config


def to_json(config: ConfigDict) -> str:
    """The resolved config as indented JSON."""
    return json.dumps(config.to_dict(), indent=2)


def from_json(text: str) -> ConfigDict:
    """The inverse of `to_json`, with options added since then at their defaults."""
    config = defaults()
    config.update(config_dict.ConfigDict(json.loads(text)))
    return config
