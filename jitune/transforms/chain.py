"""Several transforms, one upon the other.

    chain(quantize("nf4"), lora(16, 32))              # QLoRA
    chain(lora(16, 32), select(r"norm/scale$"))       # factors, and norms as they are
"""

from __future__ import annotations

import jax

from jitune.transforms import weights
from jitune.types import Model, Transform, UserError


def chain(*transforms: Transform) -> Transform:
    """Each transform sees the parameters that those before it give the model.

    frozen and trainable: {"0": those of the first transform, "1": ...}, without empty ones; the parameters themselves
    (base) are kept by the first only. merge is None where one of the transforms has none.
    """
    if not transforms:
        raise ValueError("chain: at least one transform is needed")

    def init(key, params):
        frozen, trainable = {}, {}
        for i, transform in enumerate(transforms):
            still, moving = transform.init(jax.random.fold_in(key, i), params)
            if i:
                _check_base(still, params)
            params = weights.parameters(transform, still, moving)
            if i:
                still = {name: value for name, value in still.items() if name != "base"}
            frozen |= {str(i): still} if jax.tree.leaves(still) else {}
            trainable |= {str(i): moving} if jax.tree.leaves(moving) else {}
        return frozen, trainable

    def apply(model: Model) -> Model:
        def rest(pair, i) -> Model:
            """The model over the parameters that transform i is given, with the transforms from i on."""
            if i == len(transforms):
                return model
            inner = transforms[i].apply(rest(pair, i + 1))

            def call(function):
                return lambda params, *args: function(_part(pair, i, params), *args)

            return inner._replace(embed=call(inner.embed), hidden=call(inner.hidden), unembed=call(inner.unembed))

        def call(name):
            def on_pair(pair, *args):
                return getattr(transforms[0].apply(rest(pair, 1)), name)(_part(pair, 0), *args)

            return on_pair

        caches = model
        for transform in reversed(transforms):
            caches = transform.apply(caches)
        return Model(model.init, call("embed"), call("hidden"), call("unembed"), caches.init_cache)

    def merge(frozen, trainable):
        params = None
        for i, transform in enumerate(transforms):
            params = transform.merge(*_part((frozen, trainable), i, params))
        return params

    return Transform(init, apply, merge if all(t.merge for t in transforms) else None)


def _check_base(frozen, params) -> None:
    """Only the first transform's parameters are kept, so none of the others may change them."""
    given, base = weights.flatten(params), weights.flatten(frozen.get("base", {}))
    if changed := [path for path, leaf in base.items() if leaf is not given.get(path)]:
        raise UserError(f"chain: a transform changes {changed[0]} itself, as quantize does; it must come first")


def _part(pair, i: int, params=None):
    """The pair of transform i, over these parameters."""
    frozen, trainable = (side.get(str(i), {}) for side in pair)
    return (frozen if params is None else {**frozen, "base": params}), trainable
