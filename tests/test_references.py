"""When stored log-probabilities of a reference may be read again: of the same model, documents and masks, and whole."""

import json

import numpy as np
import pytest

from jitune import references
from jitune.data.pipeline import Documents, Prepared
from jitune.types import DataStats

pytestmark = pytest.mark.core


def prepared(tokens=(5, 6, 7, 8), weights=(0, 1, 0, 1), offsets=(0, 2, 4)):
    source = Documents(np.array(tokens, np.int32), np.array(weights, np.float32), np.array(offsets, np.int64), None)
    return Prepared((source,), None, DataStats())


@pytest.fixture
def written(tmp_path):
    """What a run leaves: an array for training, one for evaluation, and the record."""
    data = {"train": prepared(), "eval": prepared((1, 2), (0, 1), (0, 2))}
    for name, found in data.items():
        np.save(tmp_path / references.NAMES[name], np.zeros(len(found.sources[0].tokens), np.float32))
    (tmp_path / references.RECORD).write_text(json.dumps(references.record(data, "model")))
    return tmp_path, data


def test_they_stand_for_the_same_model_documents_and_masks(written):
    folder, data = written
    assert references.stand(folder, data, "model") and not references.stand(folder, data, "another")
    for other in (prepared(tokens=(5, 6, 7, 9)), prepared(weights=(0, 1, 1, 1)), prepared(offsets=(0, 3, 4))):
        assert not references.stand(folder, {**data, "train": other}, "model")
    assert not references.stand(folder, {"train": data["train"], "eval": None}, "model")


@pytest.mark.parametrize("name", ["train", "eval"])
def test_a_file_that_is_lost_or_cut_off_is_written_anew(written, name):
    folder, data = written
    path = folder / references.NAMES[name]
    path.write_bytes(path.read_bytes()[:-4])
    assert not references.stand(folder, data, "model")
    path.unlink()
    assert not references.stand(folder, data, "model")
