"""What `jitune export` writes of a run with an adapter: the whole model, and the form for vLLM."""

import jax
import numpy as np

import jitune
from jitune.cli import main
from jitune.hub import peft
from jitune.train import train


def logits(model, params):
    ids = np.arange(20, dtype=np.int32)[None]
    return np.asarray(jax.jit(lambda params: jitune.logits(model, params, ids))(params))


def test_the_forms_of_a_run_are_one_model(toy_config, toy_model, tmp_path, capsys):
    toy_config.update_from_flattened_dict({
        "transform.name": "lora", "transform.rank": 3, "transform.select": "(q|up)_proj", "steps": 3, "seq_len": 32,
        "transform.train": "norm/scale", "transform.quantize": "int8", "transform.quantize_select": "up_proj",
        "optimizer.learning_rate": 0.1, "mesh.fsdp": 1, "mesh.data": 8,
    })
    run = train(toy_config)
    for form in ("merged", "vllm"):
        assert main(["export", "--run", str(run), "--to", form, "--out", str(tmp_path / form)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [f"saved {tmp_path / name}" for name in ("merged", "vllm/base", "vllm/adapter")]
    assert f"vllm serve {tmp_path}/vllm/base --enable-lora --max-lora-rank 8" in said[3]
    merged = jitune.load(tmp_path / "merged", dtype="float32")
    wanted, base = logits(merged.model, merged.params), jitune.load(toy_model, dtype="float32")
    assert abs(wanted - logits(base.model, base.params)).max() > 0.1
    served = jitune.load(tmp_path / "vllm" / "base", dtype="float32")
    opened = peft.open_adapters(served, {"a": tmp_path / "vllm" / "adapter"}, base=tmp_path / "vllm" / "base")["a"]
    np.testing.assert_allclose(logits(opened.model, opened.params), wanted, 1e-4, 5e-5)
    assert merged.config.generation_config["eos_token_id"] == [merged.tokenizer.convert_tokens_to_ids("<|im_end|>")]
