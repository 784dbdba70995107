"""LoRA on a Flax NNX language model of your own, trained with jitune's step, and put back into the module.

    python scripts/examples/own_nnx.py

The module is split into plain parameters and pure functions (`from_nnx`); the training is that of `own_linen.py`.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from jitune import tree
from jitune.models.flax_bridge import from_nnx
from jitune.transforms import lora

sys.path.insert(0, str(Path(__file__).parent))
from own_linen import DIM, VOCAB, counting_batch, train


class OwnModel(nnx.Module):
    def __init__(self, rngs):
        self.embedding = nnx.Embed(VOCAB, DIM, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(DIM, DIM, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(DIM, VOCAB, use_bias=False, rngs=rngs)

    def embed(self, tokens):
        return self.embedding(tokens)

    def hidden(self, batch, cache=None):
        x = batch["embeddings"] if "embeddings" in batch else self.embed(batch["tokens"])
        for layer in self.layers:
            x = x + nnx.gelu(layer(x))
        return x, cache

    def unembed(self, hidden):
        return self.head(hidden).astype(jnp.float32)


def main():
    module = OwnModel(nnx.Rngs(0))
    model, params = from_nnx(module)
    transform = lora(8, 16, select=r"kernel$|embedding$")
    frozen, trainable = transform.init(jax.random.key(1), params)
    print("factors beside " + ", ".join(p.removesuffix("/lora_a") for p in tree.flatten(trainable) if "lora_a" in p))
    trainable = train(transform.apply(model), frozen, trainable)

    merged = transform.merge(frozen, trainable)
    module.embedding.embedding[...] = merged["embedding"]["embedding"]
    module.head.kernel[...] = merged["head"]["kernel"]
    for i, layer in enumerate(module.layers):
        layer.kernel[...] = merged["layers"][str(i)]["kernel"]
    batch = counting_batch(jax.random.key(9))
    logits = module.unembed(module.hidden(batch)[0])
    print(f"next tokens that are right, by the module itself: {(logits.argmax(-1) == batch['targets']).mean():.0%}")


if __name__ == "__main__":
    main()
