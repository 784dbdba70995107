"""`jitune plan` and `jitune train --dry_run` as they are typed; every recipe fits the hardware that it names."""

import json
import re
import subprocess
import sys

import jax
import pytest

from jitune import config as configs
from jitune.cli import main
from jitune.planning import plan, tables
from jitune.types import MESH_AXES, UserError
from tests.conftest import ROOT, run_cli

# name of the recipe: (preset, hardware)
RECIPES = {
    "llama_1b_gpu": ("1b", "h100-sxm"),
    "llama_8b_8gpu": ("8b", "h100-sxm"),
    "llama_8b_v5e16": ("8b", "tpu-v5e"),
    "llama_70b_v5p128": ("70b", "tpu-v5p"),
}
TINY = ("plan", "--family", "qwen3", "--preset", "tiny")


@pytest.fixture(autouse=True, scope="module")
def backend():
    """Started with the devices of the tests: a plan that comes first would start it with its own."""
    jax.devices()


def test_every_recipe_fits():
    words = [f"{name}:{preset}:{machine}" for name, (preset, machine) in RECIPES.items()]
    out = subprocess.run([sys.executable, "-m", "tests.planning.recipes", *words], capture_output=True, text=True,
                         cwd=ROOT, timeout=900)
    assert out.returncode == 0, out.stderr
    lines = [line.split() for line in out.stdout.splitlines()]
    assert [line[0] for line in lines] == list(RECIPES)
    for name, verdict, gib in lines:
        text = (ROOT / "configs" / f"{name}.py").read_text()
        assert verdict == "fits", (name, gib)
        stated = float(re.search(r"needs? ([\d.]+)\s(?:GiB|of)", text)[1])
        assert float(gib) == pytest.approx(stated, rel=0.1), f"{name}: the text says {stated}"


@pytest.mark.core
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_how_it_is_run(name):
    path = ROOT / "configs" / f"{name}.py"
    lines = path.read_text().splitlines()
    assert lines[0].startswith(f'"""jitune train --config configs/{name}.py ')
    preset, machine = RECIPES[name]
    assert f"    jitune plan --config configs/{name}.py --family llama --preset {preset} --hardware {machine}" in lines
    assert 20 <= len(lines) <= 60
    configs.check(configs.read(str(path)), needed=())


def test_the_command(tmp_path):
    out = run_cli(*TINY, "--mesh", "fsdp=4", "--hardware", "l4", "--rows", "1", "--config.seq_len=64", devices=1)
    assert out.returncode == 0, out.stderr
    assert "data 1 x fsdp 4 x tensor 1 of l4; a step of 4 x 64 tokens" in out.stdout
    for part in ("parameters", "sharding", "memory of a device", "a step's work", "between devices", "remat"):
        assert re.search(f"^{part}", out.stdout, re.M), part
    assert re.search(r"^mlp +73,728 ", out.stdout, re.M)  # 2 layers of 3 x 64 x 192
    assert "remat none: fits with 1 row a device, batch_size 4" in out.stdout
    assert "\x1b" not in out.stdout and "\N{HORIZONTAL ELLIPSIS}" not in out.stdout
    assert max(map(len, out.stdout.splitlines())) <= 80


def test_it_follows_the_config(tmp_path, capsys):
    file = tmp_path / "c.py"
    file.write_text("from jitune.config import defaults\n\ndef get_config():\n    c = defaults()\n"
                    "    c.seq_len = 32\n    c.batch_size = 8\n"
                    "    c.mesh.fsdp = 2\n    c.mesh.context = 2\n    return c\n")
    words = ["plan", "--config", file, "--family", "llama", "--preset", "tiny", "--hardware", "t4", "--no-compare",
             "--config.microbatches=2", "--config.optimizer.name=lion"]
    assert main([str(w) for w in words]) == 0
    text = capsys.readouterr().out
    assert "data 1 x fsdp 2 x context 2 x tensor 1 of t4; a step of 8 x 32 tokens in 2 microbatches" in text
    assert "float32 over float32 weights, remat none, lion" in text


REFUSED = {
    "hardware": (("--mesh", "fsdp=2", "--hardware", "h300"), "'h300' is not known; known are a100-40gb"),
    "mesh word": (("--mesh", "fsdp", "--hardware", "l4"), "--mesh fsdp: 'fsdp' is not an axis and its size"),
    "mesh axis": (("--mesh", "zero=2", "--hardware", "l4"), "of the axes data, fsdp, expert, context, tensor"),
    "mesh number": (("--mesh", "fsdp=two", "--hardware", "l4"), "'fsdp=two' is not an axis and its size"),
    "mesh zero": (("--mesh", "fsdp=0", "--hardware", "l4"), "sizes are positive"),
    "mesh open": (("--hardware", "l4"), "give their number as --devices"),
    "mesh and devices": (("--mesh", "fsdp=2", "--devices", "3", "--hardware", "l4"), "does not multiply to 3 devices"),
    "huge": (("--mesh", "fsdp=99999", "--hardware", "l4"), "at most 1024"),
    "rows": (("--mesh", "fsdp=2", "--hardware", "l4", "--rows", "0"), "--rows 0: positive numbers"),
    "batch": (("--mesh", "fsdp=2", "--hardware", "l4", "--config.batch_size=3"), "does not divide by the mesh"),
    "tokens": (("--mesh", "context=3", "--hardware", "l4", "--config.seq_len=64"),
               "config.seq_len=64 does not divide by the mesh: context = 3"),
    "other kernel": (("--mesh", "fsdp=2", "--hardware", "l4", "--config.model.attention=splash"),
                     "attention=splash needs a TPU and config.model.dtype=bfloat16, not gpu with bfloat16"),
    "kernel": (("--mesh", "context=2", "--hardware", "l4", "--config.model.attention=cudnn"),
               "config.model.attention=cudnn has no form for a sequence that is split over mesh.context; auto works"),
    "option": (("--mesh", "fsdp=2", "--hardware", "l4", "--config.remat=full"), "no option config.remat"),
    "remat": (("--mesh", "fsdp=2", "--hardware", "l4", "--config.model.remat=all"), "known are none, full"),
}


@pytest.mark.core
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, capsys):
    words, message = REFUSED[name]
    assert main([*TINY, *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and err.startswith("jitune: ")


@pytest.mark.core
def test_models_that_are_not_known(tmp_path, capsys):
    for words, message in (
        (["--family", "opt", "--preset", "tiny"], "known are llama"),
        (["--family", "llama", "--preset", "9b"], "it has tiny, quick, small, 1b, 8b, 70b"),
        (["--family", "llama"], "go together"),
        ([], "give --family and --preset, or --config.model.path"),
        ([f"--config.model.path={tmp_path}/none"], "no such checkpoint directory"),
    ):
        assert main(["plan", "--mesh", "fsdp=2", "--hardware", "l4", *words]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


@pytest.mark.core
def test_meshes():
    ones = dict.fromkeys(MESH_AXES, 1)
    assert plan.parse_mesh("fsdp=16") == {**ones, "fsdp": 16}
    assert plan.parse_mesh("fsdp=2, context=8") == {**ones, "fsdp": 2, "context": 8}
    assert plan.settle_mesh({"data": 2, "fsdp": -1, "tensor": 2}, 16) == {"data": 2, "fsdp": 4, "tensor": 2}
    with pytest.raises(UserError, match="does not multiply to 6 devices"):
        plan.settle_mesh({"data": 4, "fsdp": -1, "tensor": 1}, 6)


def words_of(toy_model, toy_data, tmp_path, **options):
    given = {"model.path": toy_model, "data.train": toy_data, "output_dir": tmp_path / "run", "steps": 3,
             "seq_len": 64, "batch_size": 8, "mesh.fsdp": 8, "loss_chunk": 128, **options}
    return ["train", "--dry_run", *(f"--config.{name}={value}" for name, value in given.items())]


def test_dry_run(toy_model, toy_data, tmp_path, capsys):
    assert main(words_of(toy_model, toy_data, tmp_path, seq_len=128)) == 0
    text = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    for part in ("parameters", "sharding", "memory of a device", "a step's work", "between devices"):
        assert re.search(f"^{part}", text, re.M), part
    assert "data 1 x fsdp 8 x tensor 1; a step of 8 x 128 tokens" in text
    assert text.endswith("nothing was trained and nothing was written\n") and "\n3 steps\n" in text
    # The batch: its rows, their documents, and what of them is trained.
    rows = [int(n) for n in re.findall(r"^-- row \d of 8: (\d+) tokens", text, re.M)]
    parts = [int(n) for n in re.findall(r"^-- row \d, document \d+: (\d+) tokens", text, re.M)]
    assert len(rows) == 8 and sum(rows) == sum(parts) and len(parts) > 8
    answers = json.loads(toy_data.read_text().splitlines()[0])["output"].partition(".")[0].split()
    assert re.search(rf"\[\[{answers[0]} \w+ is \w+\..*<\|im_end\|>\]\]", text.replace("\n", " "))
    assert "[[Name the" not in text


def test_a_dry_run_refuses_what_a_run_does(toy_model, toy_data, tmp_path, capsys):
    for options, message in (
        ({"batch_size": 6}, "does not divide by the mesh"),
        ({"data.train": tmp_path / "none.jsonl"}, "no such file"),
        ({"loggers": "paper"}, "'paper' is not known"),
    ):
        assert main(words_of(toy_model, toy_data, tmp_path, **options)) == 2
        assert message in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


@pytest.mark.core
def test_numbers_for_readers():
    assert tables.size(1610612736) == "1.50 GiB" and tables.size(0) == "0 B" and tables.size(2**41) == "2.00 TiB"
    assert tables.big(1.98e15) == "1.98 P" and tables.big(12) == "12 "
