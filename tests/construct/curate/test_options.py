"""The config of curation: sections of stages come from their builders, and mistakes are named."""

import hashlib

import pytest

from jitune import config as training
from jitune import recipes
from jitune.construct.curate import config as configs
from jitune.construct.curate import identity, table
from jitune.construct.curate.config import from_words
from jitune.construct.curate.table import Spec
from jitune.types import UserError
from tests.conftest import run_cli
from tests.construct.curate.made import TOYS


def test_every_stage_has_a_section_of_its_builders_options():
    config = configs.defaults()
    for name, target in table.STAGES.items():
        assert config[name].to_dict() == {k: v for k, v in table.options(target).items() if k != "inputs"}
        assert all(value is None or isinstance(value, (bool, int, float, str)) for value in config[name].values())


def test_stages_are_parsed():
    assert table.parse("empty, short=length,mine=a.b:c,a.b:d") == [
        ("empty", table.STAGES["empty"]), ("short", table.STAGES["length"]), ("mine", "a.b:c"), ("d", "a.b:d")]
    with pytest.raises(UserError, match="there is no stage 'lenght'; the nearest are length"):
        table.parse("lenght")
    with pytest.raises(UserError, match="two stages are named 'length'"):
        table.parse("length,length")
    with pytest.raises(UserError, match="'ids' cannot name .*length:build; give it another name as other="):
        table.parse("ids=length")
    with pytest.raises(UserError, match="'length' cannot name a.b:length; give it another name"):
        table.parse("a.b:length")
    with pytest.raises(UserError, match="'seed' is an option already"):
        from_words(None, [f"--config.stages=seed={TOYS}:words"])
    with pytest.raises(UserError, match="no_such_module:f cannot be imported"):
        from_words(None, ["--config.stages=no_such_module:f"])


def test_a_stage_of_ones_own_has_a_section_on_the_command_line_and_in_a_file(tmp_path):
    stages = f"--config.stages=short={TOYS}:words,{TOYS}:redact"
    config = from_words(None, [stages, "--config.short.at_least=7", "--config.seed=5", "--config.input=a,b"])
    assert configs.specs(config) == [Spec("short", f"{TOYS}:words", {"at_least": 7}),
                                     Spec("redact", f"{TOYS}:redact", {"what": "secret", "by": "[...]"})]
    path = tmp_path / "mine.py"
    path.write_text("from jitune.construct.curate.config import defaults\nfrom ml_collections import ConfigDict\n"
                    "def get_config():\n    c = defaults()\n"
                    f"    c.stages = 'short={TOYS}:words,mix'\n    c.short = ConfigDict({{'at_least': 9}})\n"
                    "    return c\n")
    config = from_words(str(path), ["--config.mix.total=5", "--config.seed=4", "--config.input=a,b"])
    assert [spec.options for spec in configs.specs(config)] == [{"at_least": 9}, {
        "weights": "", "temperature": 1.0, "total": 5, "caps": "", "seed": 4, "inputs": ("a", "b")}]
    path.write_text(path.read_text().replace("at_least", "at_leest"))
    with pytest.raises(UserError, match=r"mine\.py: there is no option config\.short\.at_leest; the nearest are short"):
        from_words(str(path), [])


@pytest.mark.parametrize(("word", "message"), [
    ("--config.length.min_wrods=3", "no option config.length.min_wrods; the nearest are length.min_"),
    ("--config.stages=empti", "the nearest are empty"),
    ("--config.workers=many", "a value of type int is needed"),
    ("--config.output=x", "the nearest are output_dir"),
])
def test_mistakes_name_what_was_meant(word, message):
    with pytest.raises(UserError, match=message):
        from_words(None, [word])


@pytest.mark.parametrize(("changes", "message"), [
    ({"input": ""}, "config.input is not set"),
    ({"output_dir": ""}, "config.output_dir is not set"),
    ({"workers": -2}, "config.workers=-2 must be at least -1"),
])
def test_values_that_cannot_work(changes, message):
    config = configs.defaults()
    config.update({"input": "a", "output_dir": "b"} | changes)
    with pytest.raises(UserError, match=message):
        configs.check(config)


def header_of(config):
    specs = configs.specs(config)
    return configs.header(config, specs, {spec.name: identity.made_of(spec) for spec in specs})


def test_files_and_models_that_options_name_are_part_of_what_a_run_is(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    (tmp_path / "test.jsonl").write_text("x\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"1234")
    words = [f"--config.input={tmp_path / 'a.jsonl'}", "--config.output_dir=x", "--config.stages=decontaminate,ifd",
             f"--config.decontaminate.against={tmp_path / 'test.jsonl'}", f"--config.ifd.model={tmp_path / 'model'}"]
    config = from_words(None, words)
    before = header_of(config)
    assert before[f"digest of {tmp_path / 'test.jsonl'}"] == hashlib.sha256(b"x\n").hexdigest()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"1235")
    after = header_of(config)
    assert {name for name in after if after[name] != before[name]} == {f"digest of {tmp_path / 'model'}"}


def test_code_of_ones_own_is_part_of_what_a_run_is(tmp_path, monkeypatch):
    """Stages, readers and functions that options name; jitune's own are told by the version."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a.jsonl").write_text("{}\n")
    module = tmp_path / "stages_of_mine.py"
    module.write_text(f"from {TOYS} import words\ndef letters(records): return [1] * len(records)\n")
    words = [f"--config.input={tmp_path / 'a.jsonl'}", "--config.output_dir=x", "--config.format=stages_of_mine:read",
             "--config.stages=score,mine=stages_of_mine:words", "--config.score.function=stages_of_mine:letters"]
    config = from_words(None, words)
    before = header_of(config)
    module.write_text(module.read_text() + "# changed\n")
    after = header_of(config)
    assert {name for name in after if after[name] != before[name]} == {
        f"digest of stages_of_mine:{name}" for name in ("read", "words", "letters")}
    assert not any("jitune" in name for name in after)


def test_files_of_patterns_and_of_tasks_are_part_of_what_a_run_is(tmp_path):
    rows = '{"question": "How many apples are in the two baskets?", "answer": "#### 4"}\n'
    for name in ("one.jsonl", "two.jsonl", "gsm8k_test.jsonl"):
        (tmp_path / name).write_text(rows)
    spec = Spec("clean", table.STAGES["decontaminate"], {"against": f"{tmp_path}/*o*.jsonl", "tasks": "gsm8k",
                                                         "data": str(tmp_path)})
    assert sorted(identity.made_of(spec)) == [f"{tmp_path}/{name}" for name in (
        "gsm8k_test.jsonl", "one.jsonl", "two.jsonl")]


def test_a_model_is_known_by_weights_tokenizer_and_adapter(toy_model, tmp_path):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(toy_model, folder)
    found = [identity.model(str(folder))[str(folder)]]
    for name in ("tokenizer_config.json", "model.safetensors"):
        path = next(folder.glob(name))
        path.write_bytes(path.read_bytes()[:-1] + b" ")
        found.append(identity.model(str(folder))[str(folder)])
    assert len(set(found)) == 3
    assert identity.model("en_core_web_sm") == {} and identity.model(str(tmp_path)) == {}


def test_inputs_that_would_be_read_twice(tmp_path):
    with pytest.raises(UserError, match="lies in the folder"):
        configs.inputs(from_words(None, [f"--config.input={tmp_path}", f"--config.output_dir={tmp_path}/a/b"]))
    with pytest.raises(UserError, match="config.input=' ,' names nothing"):
        configs.inputs(from_words(None, ["--config.input= ,", "--config.output_dir=out"]))
    with pytest.raises(UserError, match="config.input: a is named twice"):
        configs.inputs(from_words(None, ["--config.input=a,b,a", "--config.output_dir=out"]))


def test_options_come_to_builders_in_their_types():
    def build(*, sizes: tuple = (1, 2), low: float | None = None, name: str):
        assert (sizes, low, name) == ((3, 4), 0.5, "x")
        return table.build(Spec("words", f"{TOYS}:words", {}))

    from tests.construct.curate import toy_stages

    toy_stages.asked = build
    try:
        target = f"{TOYS}:asked"
        assert table.options(target) == {"sizes": "1,2", "low": None, "name": ""}
        with pytest.raises(UserError, match="config.asked.name is not set; the stage asked needs it"):
            table.build(Spec("asked", target, table.options(target)))
        words = [f"--config.stages={target}", "--config.asked.sizes=3, 4", "--config.asked.low=0.5",
                 "--config.asked.name=x"]
        assert table.build(configs.specs(from_words(None, [*words, "--config.input=a"]))[0]).name == "words"
    finally:
        del toy_stages.asked


def test_the_config_that_comes_with_jitune_builds():
    config = from_words("curate", ["--config.input=a.jsonl"])
    assert {type(table.build(spec)).__name__ for spec in configs.specs(config)} == {"Filter", "Sieve"}
    assert "curate" in recipes.names("data curate") and "curate" not in recipes.names()
    assert recipes.find("curate", "data curate").read_text().startswith('"""jitune data curate --config ')


def test_a_config_of_another_command_is_refused():
    with pytest.raises(UserError, match="curate: is a config of `jitune data curate`, not of `jitune train`"):
        training.read("curate")
    with pytest.raises(UserError, match="sft: is a config of `jitune train`, not of `jitune data curate`"):
        from_words("sft", [])


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    out = run_cli("data", "curate", "--config", "curate", f"--config.output_dir={tmp_path / 'out'}",
                  f"--config.input={tmp_path / 'none.jsonl'}")
    assert out.returncode == 2 and out.stderr.count("\n") == 1 and "none.jsonl: no such file" in out.stderr
    assert not (tmp_path / "out").exists()
