"""LoRA on a Flax Linen language model of your own, trained with jitune's step, and merged.

    python scripts/examples/own_linen.py

The model is a Linen module with three methods: `embed`, `hidden` and `unembed`. Nothing in it knows of LoRA.
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jitune import tree
from jitune.models.flax_bridge import from_linen
from jitune.objectives.sft import sft
from jitune.step import make_train_step
from jitune.transforms import lora
from jitune.types import TrainState

VOCAB, DIM, ROWS, SEQ = 32, 32, 8, 16


class Block(nn.Module):
    """Looks at the tokens before, by a weighted sum, and then at each of them."""

    @nn.compact
    def __call__(self, x):
        past = jnp.tril(jnp.ones((x.shape[1], x.shape[1])))
        mixed = jnp.einsum("ts,bsd->btd", past / past.sum(axis=1, keepdims=True), nn.Dense(DIM, name="mix")(x))
        return x + nn.Dense(DIM, name="out")(nn.gelu(nn.Dense(2 * DIM, name="up")(nn.LayerNorm()(x + mixed))))


class OwnModel(nn.Module):
    def setup(self):
        self.embedding = nn.Embed(VOCAB, DIM)
        self.blocks = [Block() for _ in range(2)]
        self.head = nn.Dense(VOCAB, use_bias=False)

    def embed(self, tokens):
        return self.embedding(tokens)

    def hidden(self, batch, cache=None):
        x = batch["embeddings"] if "embeddings" in batch else self.embed(batch["tokens"])
        for block in self.blocks:
            x = block(x)
        return x, cache

    def unembed(self, hidden):
        return self.head(hidden).astype(jnp.float32)

    def __call__(self, tokens):
        return self.unembed(self.hidden({"tokens": tokens})[0])


def counting_batch(key):
    """Rows that count up from somewhere: 5 6 7 8 ..."""
    tokens = (jax.random.randint(key, (ROWS, 1), 0, VOCAB) + jnp.arange(SEQ)) % VOCAB
    ones = jnp.ones((ROWS, SEQ), jnp.int32)
    return {"tokens": tokens, "targets": (tokens + 1) % VOCAB, "loss_weights": ones.astype(jnp.float32),
            "segment_ids": ones, "positions": ones * jnp.arange(SEQ)}  # fmt: skip


def train(model, frozen, trainable, steps=60):
    """Trains the trainable part; model takes (frozen, trainable)."""
    optimizer = optax.adam(1e-2)
    step = jax.jit(make_train_step(model, sft(), optimizer))
    state = TrainState(jnp.zeros((), jnp.int32), trainable, optimizer.init(trainable))
    key = jax.random.key(0)
    for i in range(steps):
        state, metrics = step(state, frozen, counting_batch(jax.random.fold_in(key, i)), key)
        if i % 20 == 0 or i == steps - 1:
            print(f"step {i + 1:3d}  loss {metrics['loss']:.3f}")
    return state.trainable


def main():
    model = from_linen(OwnModel())
    params = jax.jit(model.init)(jax.random.key(0))
    transform = lora(8, 16, select=r"(mix|up|out|head)/kernel$")
    frozen, trainable = transform.init(jax.random.key(1), params)
    print(f"{tree.count_params(trainable)} numbers are trained beside {tree.count_params(params)}")
    trainable = train(transform.apply(model), frozen, trainable)

    # The merged parameters are the model's own again, and give the same logits.
    merged, batch = transform.merge(frozen, trainable), counting_batch(jax.random.key(9))
    pair, changed = (frozen, trainable), transform.apply(model)
    factored = changed.unembed(pair, changed.hidden(pair, batch)[0])
    plain = model.unembed(merged, model.hidden(merged, batch)[0])
    print(f"largest difference of logits after merging: {jnp.abs(factored - plain).max():.1e}")
    print(f"next tokens that are right: {(plain.argmax(-1) == batch['targets']).mean():.0%}")


if __name__ == "__main__":
    main()
