"""The model's own answers in the place of a batch's."""

import numpy as np

import jitune
from jitune import own_answers
from jitune.transforms.full import full


def test_a_row_may_be_longer_than_the_models_context(toy_model, toy_config):
    """Of a prompt that leaves no room for its answer within the context, the end is answered."""
    pretrained = jitune.load(toy_model, dtype="float32")
    frozen, trainable = full().init(None, pretrained.params)
    toy_config.update_from_flattened_dict({"objective.on_policy": 1.0, "objective.max_new_tokens": 6, "seq_len": 40,
                                           "batch_size": 1, "mesh.fsdp": 1})  # fmt: skip
    batch = {"tokens": np.arange(40, dtype=np.int32)[None] + 20, "segment_ids": np.ones((1, 40), np.int32),
             "loss_weights": (np.arange(40) >= 30).astype(np.float32)[None]}  # fmt: skip
    new, numbers = own_answers.renew(batch, full().apply(pretrained.model), (frozen, trainable), pretrained.tokenizer,
                                     toy_config, step=1, stop_ids=(), context=16)  # fmt: skip
    assert numbers["on_policy"] == 1 and numbers["answers_dropped"] == numbers["answers_cut"] == 0
    assert new["tokens"][0, :10].tolist() == batch["tokens"][0, 21:31].tolist()
    assert new["segment_ids"][0].tolist() == [1] * 16 + [0] * 24
    assert new["loss_weights"][0].sum() == 6
