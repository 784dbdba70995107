"""Full tuning: every parameter is trained, nothing is frozen."""

from __future__ import annotations

from jitune.types import Model, Transform


def full() -> Transform:
    """The transform whose trainable part is all of the parameters; merging gives them back as they are."""

    def apply(model: Model) -> Model:
        return Model(
            init=model.init,
            embed=lambda pair, tokens: model.embed(pair[1], tokens),
            hidden=lambda pair, *args: model.hidden(pair[1], *args),
            unembed=lambda pair, hidden: model.unembed(pair[1], hidden),
            init_cache=model.init_cache,
        )

    return Transform(
        init=lambda key, params: ({}, params),
        apply=apply,
        merge=lambda frozen, trainable: trainable,
    )
