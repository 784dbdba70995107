"""Meshes and rules."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from jitune import sharding, tree
from jitune.hub import weights
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.sharding import make_mesh, shardings, state_shardings
from jitune.types import UserError

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [((1, -1, 1), (1, 8, 1)), ((-1, 2, 2), (2, 2, 2)), ((1, 4, -1), (1, 4, 2)), ((8, 1, 1), (8, 1, 1))],
)
def test_make_mesh(sizes, shape):
    mesh = make_mesh(*sizes)
    assert tuple(mesh.shape.values()) == shape and mesh.axis_names == ("data", "fsdp", "tensor")


@pytest.mark.parametrize("sizes", [(3, -1, 1), (1, 1, 1), (-1, -1, 1), (0, 8, 1), (2, 2, 4)])
def test_mesh_that_does_not_fit(sizes):
    with pytest.raises(UserError, match="^mesh: "):
        make_mesh(*sizes)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_a_place(family):
    for preset in FAMILIES[family].presets.values():
        raw = {"model_type": family, "vocab_size": 512, **preset}
        raw |= {"attention_bias": True, "mlp_bias": True} if family == "llama" else {}
        raw |= {"vocab_size": 512} if family == "gpt2" else {}  # its own is odd: nothing divides it
        abstract = weights.abstract_params(ModelConfig.from_hf(raw))
        placed = tree.flatten(shardings(abstract, make_mesh(1, 4, 2)))
        for path, home in placed.items():
            shape = tree.flatten(abstract)[path].shape
            home.shard_shape(shape)
            if path.endswith(("kernel", "embedding")):
                assert {"fsdp", "tensor"} <= set(home.spec), path


def test_uncovered_leaf_and_wrong_rank():
    mesh = make_mesh()
    with pytest.raises(UserError, match=r"no rule covers adapter/a \(4, 4\)"):
        shardings({"adapter": {"a": jnp.zeros((4, 4))}}, mesh)
    with pytest.raises(UserError, match="has 3 axes"):
        shardings({"q_proj": {"kernel": jnp.zeros((4, 4))}}, mesh)


def test_an_axis_that_does_not_divide_is_dropped():
    home = shardings({"lm_head": {"kernel": jnp.zeros((10, 6))}}, make_mesh(1, 4, 2))["lm_head"]["kernel"]
    assert home.spec == P(None, "tensor")


def test_optimizer_state_lies_with_its_parameters():
    import optax

    params = {"layers": {"q_proj": {"kernel": jnp.zeros((2, 256, 256))}}, "norm": {"scale": jnp.zeros(256)}}
    mesh = make_mesh(1, 4, 2)
    homes = shardings(params, mesh)
    for optimizer in (optax.adamw(1e-3), optax.adafactor(1e-3)):
        shapes = jax.eval_shape(optimizer.init, params)
        placed = tree.flatten(state_shardings(shapes, params, homes, mesh))
        for path, leaf in tree.flatten(shapes).items():
            same = path.endswith("q_proj/kernel") and leaf.shape == (2, 256, 256)
            assert placed[path].spec == (P(None, "fsdp", "tensor") if same else P()), path


def test_shares_of_a_batch():
    mesh = make_mesh(2, 2, 2)
    assert sharding.batch_shards(mesh) == 4
    assert sharding.process_share(mesh, 16) == (0, 1)
    batch = sharding.put_batch({"tokens": jnp.zeros((16, 3), jnp.int32)}, mesh, 16)
    assert batch["tokens"].sharding.shard_shape((16, 3)) == (4, 3)
