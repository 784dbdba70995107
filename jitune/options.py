"""The options of a training run: `defaults()`, and which of them go together.

    config = defaults()                    # a ConfigDict, every option with its default
    check_objective(flatten(config))       # {"objective.name": ..., ...}: raises UserError for what cannot work
"""

from __future__ import annotations

import math

from ml_collections import ConfigDict

from jitune.types import UserError

CHOICES = {
    "model.dtype": ("float32", "bfloat16"),
    "model.remat": ("none", "full", "dots", "dots_no_batch"),
    "model.attention": ("auto", "xla", "plain", "blocks", "chunked", "cudnn", "pallas", "splash", "tokamax"),
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
            "router_coef": -1.0,  # of the load-balancing loss of experts; 0: none; below 0: what the checkpoint says
            "attention": "auto",  # auto | xla (plain or blocks) | chunked | cudnn | pallas | splash | tokamax
            "allow_longer_context": False,  # than the model was made for (max_position_embeddings)
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
        "loss_chunk": 1024,  # tokens whose logits exist at once, a teacher's too
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
        "mesh": {"data": 1, "fsdp": -1, "expert": 1, "context": 1, "tensor": 1},
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


PREFERENCES = ("dpo", "simpo", "orpo", "kto")
# Which objectives use an option of config.objective; with another one it must be left at its default.
USED_BY = {
    "beta": PREFERENCES,
    "loss": ("dpo",),
    "length_normalized": ("dpo",),
    "label_smoothing": ("dpo",),
    "gamma": ("simpo",),
    "wanted_weight": ("kto",),
    "unwanted_weight": ("kto",),
    "nll_weight": ("dpo", "simpo"),
    "reference": ("dpo", "kto"),
    "teacher": ("distill",),
    "store": ("distill",),
    "divergence": ("distill",),
    "jsd_beta": ("distill",),
    "temperature": ("distill",),
    "sft_weight": ("distill",),
    "on_policy": ("distill",),
    "max_new_tokens": ("distill",),
    "sampling_temperature": ("distill",),
}
# What a number may be: its words, and the test.
RANGES = {
    "beta": ("above 0", lambda x: x > 0),
    "label_smoothing": ("at least 0 and below 0.5", lambda x: 0 <= x < 0.5),
    "gamma": ("at least 0", lambda x: x >= 0),
    "wanted_weight": ("above 0", lambda x: x > 0),
    "unwanted_weight": ("above 0", lambda x: x > 0),
    "nll_weight": ("at least 0", lambda x: x >= 0),
    "jsd_beta": ("from 0 to 1", lambda x: 0 <= x <= 1),
    "temperature": ("above 0", lambda x: x > 0),
    "sft_weight": ("from 0 to 1", lambda x: 0 <= x <= 1),
    "on_policy": ("from 0 to 1", lambda x: 0 <= x <= 1),
    "max_new_tokens": ("at least 1", lambda x: x >= 1),
    "sampling_temperature": ("at least 0", lambda x: x >= 0),
}


def check_objective(flat: dict) -> None:
    """Refuses options of the objective that cannot work, or that it does not use. Raises UserError.

    flat: every option by its whole name, as `config.flatten` gives them.
    """
    chosen = {name.removeprefix("objective."): x for name, x in flat.items() if name.startswith("objective.")}
    _check_used(chosen)
    for name, (words, allowed) in RANGES.items():
        if not (math.isfinite(chosen[name]) and allowed(chosen[name])):
            raise UserError(f"config.objective.{name}={chosen[name]} must be {words}")
    objective = chosen["name"]
    if flat["neftune_alpha"] and objective != "sft":
        raise UserError(f"config.neftune_alpha={flat['neftune_alpha']} is of config.objective.name=sft, "
                        f"not of {objective}")
    if objective == "dpo":
        _check_dpo(chosen)
    if objective == "distill":
        _check_distill(chosen, flat)
    if objective in PREFERENCES:
        _check_pairs(flat, objective)
    if chosen["reference"] == "adapter" and flat["transform.name"] in ("full", "select"):
        raise UserError(f"config.objective.reference='adapter' needs an adapter that can be switched off; with "
                        f"config.transform.name={flat['transform.name']} the reference must be stored")


def _check_used(chosen: dict) -> None:
    standard = defaults().objective
    for name, users in USED_BY.items():
        if chosen["name"] not in users and chosen[name] != standard[name]:
            raise UserError(f"config.objective.{name}={chosen[name]!r} is of config.objective.name={' or '.join(users)}"
                            f", and is not used by {chosen['name']}; leave it at {standard[name]!r}")


def _check_dpo(chosen: dict) -> None:
    if chosen["label_smoothing"] and chosen["loss"] not in ("sigmoid", "robust"):
        raise UserError(f"config.objective.label_smoothing={chosen['label_smoothing']} is of the losses sigmoid and "
                        f"robust, not of config.objective.loss={chosen['loss']}")


def _check_distill(chosen: dict, flat: dict) -> None:
    teacher, store = (chosen[name] for name in ("teacher", "store"))
    if bool(teacher) == bool(store):
        given = "both are set" if store else "none is set"
        raise UserError("config.objective.name=distill needs one of config.objective.teacher (a model) and "
                        f"config.objective.store (a folder that `jitune data teacher` has written); {given}")
    if chosen["jsd_beta"] != defaults().objective.jsd_beta and chosen["divergence"] != "jsd":
        raise UserError(f"config.objective.jsd_beta={chosen['jsd_beta']} is of config.objective.divergence=jsd, not of "
                        f"{chosen['divergence']}")
    if flat["data.add_tokens"]:
        raise UserError("config.data.add_tokens: tokens that the student alone has cannot be distilled, the teacher "
                        "knows nothing of them")
    if store and chosen["on_policy"]:
        raise UserError(f"config.objective.on_policy={chosen['on_policy']} needs config.objective.teacher: a store "
                        "holds nothing of what the student writes")
    if not chosen["on_policy"]:
        for name in ("max_new_tokens", "sampling_temperature"):
            if chosen[name] != defaults().objective[name]:
                raise UserError(f"config.objective.{name}={chosen[name]} is of steps on what the student writes; "
                                "config.objective.on_policy is 0")
    if chosen["on_policy"] and chosen["max_new_tokens"] >= flat["seq_len"]:
        raise UserError(f"config.objective.max_new_tokens={chosen['max_new_tokens']} leaves no room for a prompt in "
                        f"config.seq_len={flat['seq_len']}")


def _check_pairs(flat: dict, objective: str) -> None:
    for name, why in (("data.split_turns", "answers are compared as wholes"),
                      ("data.train_on", "the answer alone is compared")):
        if flat[name] not in (False, "assistant", "last"):
            raise UserError(f"config.{name}={flat[name]!r} does not go with config.objective.name={objective}: {why}")
    if flat["data.overlong"] == "split":
        raise UserError(f"config.data.overlong='split' does not go with config.objective.name={objective}: a part of "
                        "an answer cannot be compared; truncate or drop")
