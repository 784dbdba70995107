"""From `config.objective` to an objective.

    objective = make_objective(config, teacher=model)   # (model, params, batch, key) -> (loss_sum, weight_sum, metrics)
    compares(config)                                    # whether its data are pairs, or answers with labels

The modules of the objectives are imported where they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jitune.objectives.sft import sft
from jitune.types import Model

PREFERENCES = ("dpo", "simpo", "orpo", "kto")


def make_objective(config: Any, *, teacher: Model | None = None, reference: Model | None = None,
                   vocab: int | None = None) -> Callable:  # fmt: skip
    """The objective that the config asks for.

    teacher: a model that is run beside; its parameters are `other` of a `Beside`. reference: a model over the run's own
    (frozen, trainable). Without them the batch must hold what they would have said. vocab: see `distill.distill`.
    """
    o, chunk = config.objective, config.loss_chunk
    if o.name == "sft":
        return sft(chunk=chunk, neftune_alpha=config.neftune_alpha)
    if o.name == "distill":
        from jitune.objectives.distill import distill

        return distill(divergence=o.divergence, jsd_beta=o.jsd_beta, temperature=o.temperature,
                       sft_weight=o.sft_weight, chunk=chunk, teacher=teacher, vocab=vocab)  # fmt: skip
    from jitune.objectives import preference

    if o.name == "dpo":
        return preference.dpo(loss=o.loss, beta=o.beta, label_smoothing=o.label_smoothing,
                              length_normalized=o.length_normalized, nll_weight=o.nll_weight, reference=reference,
                              chunk=chunk)  # fmt: skip
    if o.name == "simpo":
        return preference.simpo(beta=o.beta, gamma=o.gamma, nll_weight=o.nll_weight, chunk=chunk)
    if o.name == "orpo":
        return preference.orpo(beta=o.beta, chunk=chunk)
    return preference.kto(beta=o.beta, wanted_weight=o.wanted_weight, unwanted_weight=o.unwanted_weight,
                          reference=reference, chunk=chunk)  # fmt: skip


def make_plain(config: Any) -> Callable:
    """Cross-entropy with the data, for evaluation where the objective itself cannot be asked."""
    return sft(chunk=config.loss_chunk)


def needs_reference(config: Any) -> bool:
    """Whether the objective compares with the model that was there before."""
    return config.objective.name in ("dpo", "kto")


def compares(config: Any) -> bool:
    """Whether the objective compares answers: its data are pairs, or answers with labels."""
    return config.objective.name in PREFERENCES
