"""A context beyond the model's: refused in one line that says what allows it, and lifted where it is asked for."""

import json
import shutil

import pytest

import jitune
from jitune import config as configs
from jitune import limits
from jitune import state as states
from jitune.cli import main
from jitune.evals import during
from jitune.evals.engine.engine import open_engine
from jitune.models.config import ModelConfig
from jitune.models.families import FAMILIES
from jitune.types import UserError
from tests.evals import twin


def model(family="llama", **changes) -> ModelConfig:
    return ModelConfig.from_hf({"model_type": family, "vocab_size": 96, **FAMILIES[family].presets["tiny"], **changes})


@pytest.mark.core
def test_the_limit_and_what_lifts_it():
    config = model(max_position_embeddings=64)
    limits.check_length(64, config, "config.seq_len=64")
    with pytest.raises(UserError, match=r"^config.seq_len=65 is more than the model's context of 64 tokens; "
                                        r"config.model.allow_longer_context=true allows more$"):  # fmt: skip
        limits.check_length(65, config, "config.seq_len=65")
    assert limits.lift(config, False) is config
    limits.check_length(65, limits.lift(config, True), "config.seq_len=65")
    limits.check_length(10**6, model(max_position_embeddings=0), "a model without a limit")


@pytest.mark.core
def test_learned_positions_end_where_they_end():
    config = model("gpt2", n_positions=64)
    assert config.max_positions == 64
    with pytest.raises(UserError, match="context of 64 tokens; its positions are learned, and there are none beyond$"):
        limits.check_length(65, config, "config.seq_len=65")
    with pytest.raises(UserError, match="the positions of gpt2 are learned, and this model has 64 of them"):
        limits.lift(config, True)


@pytest.mark.core
def test_no_option_is_named_that_is_not_there():
    """By commands that load a model without asking for a longer context: curation, generators, self-improvement."""
    given = twin.pretrained()
    context = given.config.max_positions
    for longer, end in (("", "tokens"), (limits.IN_COMMANDS, "tokens; --allow_longer_context allows more")):
        with pytest.raises(UserError, match=f"^max_length=9999 is more than the model's context of {context} {end}$"):
            open_engine(given, max_length=9999, longer=longer)
    evals = configs.defaults().evals
    evals.max_length = 65
    with pytest.raises(UserError, match=r"config.evals.max_length=65 is .* of 64 tokens; config.model.allow_longer"):
        during.prepare(evals, model(max_position_embeddings=64))
    with pytest.raises(UserError, match="of 64 tokens; its positions are learned"):
        during.prepare(evals, model("gpt2", n_positions=64))


LONGROPE = {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8},
            "original_max_position_embeddings": 32, "max_position_embeddings": 128}  # fmt: skip


@pytest.mark.core
def test_a_trained_prompt_goes_as_far_as_all_documents_turn_alike():
    config, base = configs.defaults(), model("phi3", **LONGROPE)
    config.transform.name, config.transform.num_tokens, config.seq_len = "prompt", 4, 28
    config.model.allow_longer_context = True
    assert states.make_tuning(config, base).model_config.max_positions == 32
    config.seq_len = 29
    with pytest.raises(UserError, match="num_tokens=4 before config.seq_len=29 tokens is more than the model's context "
                                        "of 32 tokens; longrope turns longer texts another way.*a prefix can"):
        states.make_tuning(config, base)
    config.transform.name = "prefix"
    assert states.make_tuning(config, base).model_config.max_positions == 128
    assert limits.under_prompt(model()) == model()


@pytest.mark.core
@pytest.mark.parametrize(("changes", "longest"), [
    ({}, 64),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}, 64),
    ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, 64),
])  # fmt: skip
def test_a_run_is_refused_before_it_computes(changes, longest):
    config, base = configs.defaults(), model(max_position_embeddings=64, **changes)
    config.seq_len = longest
    states.make_tuning(config, base)
    config.seq_len = longest + 1
    with pytest.raises(UserError, match=f"config.seq_len={longest + 1} is more than the model's context of {longest}"):
        states.make_tuning(config, base)
    config.transform.name, config.transform.num_tokens, config.seq_len = "prefix", 4, longest - 3
    with pytest.raises(UserError, match=rf"num_tokens=4 before config.seq_len={longest - 3} tokens is more than the"):
        states.make_tuning(config, base)
    config.model.allow_longer_context = True
    states.make_tuning(config, base)


def test_commands(toy_model, toy_data, tmp_path, capsys):
    train = ["train", f"--config.model.path={toy_model}", f"--config.data.train={toy_data}",
             f"--config.output_dir={tmp_path}/run", "--config.seq_len=4096"]  # fmt: skip
    plan = ["plan", "--family", "llama", "--preset", "tiny", "--mesh", "fsdp=2", "--hardware", "l4",
            "--config.seq_len=4096"]  # fmt: skip
    for words in (train, [*train, "--dry_run"], plan):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "config.seq_len=4096 is more than the model's context of 2048 tokens; config.model.allow" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()
    short = shutil.copytree(toy_model, tmp_path / "short")
    raw = {**json.loads((short / "config.json").read_text()), "max_position_embeddings": 16}
    (short / "config.json").write_text(json.dumps(raw))
    ask = ["generate", "--model", str(short), "--raw", "--max_new_tokens", "1", "--prompt", "x " * 20]
    assert main(ask) == 2
    assert "context of 16 leaves no room for an answer; --allow_longer_context allows more" in capsys.readouterr().err
    assert main([*ask, "--allow_longer_context"]) == 0


@pytest.mark.core
def test_a_loaded_model_keeps_its_limit_unless_asked(toy_model):
    assert jitune.load(toy_model, dtype="float32").config.max_positions == 2048
    assert jitune.load(toy_model, dtype="float32", allow_longer_context=True).config.max_positions == 0


@pytest.mark.core
@pytest.mark.parametrize(("changes", "message"), [
    ({"model_type": "mamba"}, "model_type 'mamba' is not supported; known are " + ", ".join(FAMILIES)),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
     "rope type 'dynamic' is not supported; known are default, linear, llama3, yarn, longrope"),
    ({"hidden_act": "mish"}, "hidden_act='mish' is not supported; known are silu, swish, gelu"),
], ids=["family", "rope", "activation"])  # fmt: skip
def test_a_model_that_is_not_supported_is_one_line(changes, message, tmp_path, toy_data, capsys):
    raw = {"model_type": "llama", "vocab_size": 96, **FAMILIES["llama"].presets["tiny"], **changes}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    path = f"--config.model.path={tmp_path}"
    for words in (["plan", "--mesh", "fsdp=2", "--hardware", "l4", path],
                  ["train", path, f"--config.data.train={toy_data}", f"--config.output_dir={tmp_path}/run"],
                  ["generate", "--model", str(tmp_path), "--prompt", "x"]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert f"{tmp_path}/config.json: {message}" in err
        assert err.count("\n") == 1
