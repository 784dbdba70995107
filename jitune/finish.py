"""What a run says before its first step, and what it leaves after the last: final/.

`run` is a `train.Run`.
"""

from __future__ import annotations

from jax import ShapeDtypeStruct
from jax import tree as trees

from jitune import checkpoint, companions, meter, sharding, tree
from jitune.export import with_stop_ids
from jitune.hub import peft, weights
from jitune.models import decoder
from jitune.transforms.build import is_adapter
from jitune.transforms.weights import base_of
from jitune.types import Pretrained, TrainState


def describe(run, state: TrainState, start: int, parameters: int, trained_parameters: int) -> str:
    """What is about to be trained, and on what, in three lines, or four where weights are frozen."""
    mesh = sharding.describe(run.mesh.shape)
    aim = companions.describe(run.config, run.company, run.beside)
    resumed = f", from step {start}" if start else ""
    held, frozen = f"optimizer state {tree.count_bytes(state.opt_state) / 2**20:,.1f} MiB", tree.count_bytes(run.frozen)
    held = f"\n{held}, frozen weights {frozen / 2**20:,.1f} MiB" if frozen else f", {held}"
    return (
        f"training {trained_parameters:,} of {parameters:,} parameters ({trained_parameters / parameters:.2%})"
        f"{held}\n"
        f"{aim}"
        f"{run.total} steps of {run.config.batch_size} x {run.config.seq_len} tokens on {mesh}{resumed}\n"
        f"{meter.explain(run.peak, run.mesh, run.config.model.dtype)}"
    )


def restore_best(run, state: TrainState):
    """The trained weights of the step of lowest eval loss."""
    step = checkpoint.best_step(run.checkpoints)
    abstract = trees.map(lambda x: ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state.trainable)
    run.say(f"final/ holds the best checkpoint, step {step}")
    return checkpoint.restore_trainable(run.checkpoints, abstract, step)


def save_final(run, trainable) -> None:
    """Writes final/: an adapter, or a model with the stop ids that the chat template taught it."""
    config = with_stop_ids(run.model_config, run.tokenizer)
    final = run.directory / "final"
    if is_adapter(run.config.transform):
        pretrained = Pretrained(run.tuning.plain, base_of(run.frozen), run.tokenizer, config)
        peft.save(final, pretrained, run.tuning.transform, trainable, frozen=run.frozen, base=run.config.model.path,
                  base_digest=run.digest, rslora=run.config.transform.rslora)
        run.say(f"saved {final}, an adapter")
        return
    params = run.tuning.transform.merge(run.frozen, trainable)
    weights.save(final, Pretrained(decoder.build(config), params, run.tokenizer, config))
    run.say(f"saved {run.directory / 'final'}")
