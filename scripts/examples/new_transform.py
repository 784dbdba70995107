"""A new way of tuning in one function: VeRA (arXiv 2310.11454), random factors of all layers, scaled by vectors.

    python scripts/examples/new_transform.py

W' = W + (A diag(d)) (B diag(b)): A and B stay as they were drawn, d and b are trained. A transform says what is
trained beside the frozen parameters (`init`) and which structured leaves stand in the place of weights (`view`).
`weights.over` runs any model over these, and `structured.merge` merges them. Another kind of leaf is a class in the
manner of those in `jitune.leaves`.
"""

import jax
import jax.numpy as jnp
import optax

from jitune import structured, tree
from jitune.leaves.factored import Factored
from jitune.leaves.parts import Part
from jitune.models import decoder
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.objectives.sft import sft
from jitune.step import make_train_step
from jitune.transforms import weights
from jitune.types import TrainState, Transform


def vera(rank: int, select: str) -> Transform:
    """Trains `PATH/d` [layers, rank] and `PATH/b` [layers, out] beside weights [layers, in, out], found by `select`.

    frozen: base, and for each of these weights `a` [in, rank] and `b` [out, rank].
    """

    def init(key, params):
        fixed, trained = {}, {}
        for i, (path, w) in enumerate(weights.choose(params, select, "vera").items()):
            layers, ins, outs = w.shape
            for name, size in (("a", ins), ("b", outs)):
                key_of = jax.random.fold_in(jax.random.fold_in(key, i), size)
                fixed[f"{path}/{name}"] = jax.random.normal(key_of, (size, rank)) / rank**0.5
            trained |= {f"{path}/d": jnp.full((layers, rank), 0.1), f"{path}/b": jnp.zeros((layers, outs))}
        return {"base": params, "fixed": tree.unflatten(fixed)}, tree.unflatten(trained)

    def view(frozen, trainable, key=None):
        base, fixed, changed = weights.flatten(frozen["base"]), weights.by_path(frozen["fixed"], "a"), {}
        for path, vectors in weights.by_path(trainable, "d").items():
            w, a, b = base[path], fixed[path]["a"], fixed[path]["b"]
            # A part is an array and the axes of the weight that its own lie along; None is the rank.
            changed[path] = Factored(
                base=Part(w, (0, 1, 2)), a=Part(a * vectors["d"][:, None], (0, 1, None)),
                b=Part(b * vectors["b"][:, :, None], (0, 2, None)), scale=Part(jnp.ones(w.shape[0]), (0,)), path=path,
            )  # fmt: skip
        return weights.replace(frozen["base"], changed)

    return Transform(init, weights.over(view), lambda f, t: structured.merge(view(f, t)))


def main():
    raw = {"model_type": "qwen3", **FAMILIES["qwen3"].presets["tiny"], "vocab_size": 64, "num_hidden_layers": 2}
    model = decoder.build(ModelConfig.from_hf(raw))
    params = jax.jit(model.init)(jax.random.key(0))
    transform = vera(8, r"^layers/.*kernel$")
    frozen, trainable = transform.init(jax.random.key(1), params)
    for path, vector in tree.flatten(trainable).items():
        print(f"{path} {vector.shape}")

    ones = jnp.ones((4, 16), jnp.int32)
    tokens = ones * jnp.arange(16)
    batch = {"tokens": tokens, "targets": tokens + 1, "loss_weights": ones.astype(jnp.float32), "segment_ids": ones,
             "positions": tokens}  # fmt: skip
    optimizer = optax.adam(0.1)
    step = jax.jit(make_train_step(transform.apply(model), sft(), optimizer))
    state = TrainState(jnp.zeros((), jnp.int32), trainable, optimizer.init(trainable))
    for i in range(40):
        state, metrics = step(state, frozen, batch, jax.random.key(2))
        if i % 13 == 0:
            print(f"step {i + 1:2d}  loss {metrics['loss']:.3f}")
    merged = transform.merge(frozen, state.trainable)
    print(f"the merged model is the decoder again: {jax.tree.structure(merged) == jax.tree.structure(params)}")


if __name__ == "__main__":
    main()
