"""The quickstart's model in transformers: the same logits from the same files."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import jitune
from jitune.hub import fresh


def test_transformers_loads_the_model_of_the_quickstart(tmp_path, toy_data):
    made = fresh.create(tmp_path / "model", family="llama", preset="quick", tokenizer_from=str(toy_data),
                        vocab_size=512)
    tokens = np.arange(40)[None] % len(made.tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(jitune.logits(made.model, made.params, tokens), expected, atol=2e-5, rtol=1e-5)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab() == made.tokenizer.get_vocab()
