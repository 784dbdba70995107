"""The configs that come with jitune are found by name, in a checkout and in an installed package."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from jitune import config as configs
from jitune import recipes
from jitune.cli import main
from jitune.types import UserError
from tests.conftest import ROOT

PARTS = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "jitune", "configs")


@pytest.mark.core
def test_a_name_is_the_file_of_the_checkout():
    assert recipes.find("sft").samefile(ROOT / "configs" / "sft.py")
    assert configs.read("sft") == configs.read(str(ROOT / "configs" / "sft.py"))
    assert "sft" in recipes.names() and recipes.names() == sorted(recipes.names())


@pytest.mark.core
def test_every_recipe_reads_and_says_what_it_is_for():
    for name in recipes.names():
        assert configs.read(name)
        text = recipes.find(name).read_text()
        assert text.startswith('"""jitune train --config '), f"{name}: the first line is the command that runs it"
        assert 20 < len(recipes.meaning(recipes.find(name))) < 120 and "jitune train" not in recipes.meaning(
            recipes.find(name))


@pytest.mark.core
def test_an_unknown_name_lists_the_recipes(capsys, tmp_path, monkeypatch):
    with pytest.raises(UserError) as error:
        configs.read("stf")
    assert "stf: no such config file" in str(error.value) and "\n" not in str(error.value)
    assert "sft (Full fine-tuning of a Hugging Face checkpoint on instructions)" in str(error.value)
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert ", ".join(recipes.names()) in " ".join(capsys.readouterr().out.split())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sft").write_text("x = 1")  # a file that stands there goes before a name
    with pytest.raises(UserError, match="sft: has no get_config"):
        configs.read("sft")


def test_an_installed_package_has_the_recipes(tmp_path):
    """The wheel is built from a copy, for setuptools writes beside its sources."""
    pytest.importorskip("setuptools", "77", reason="building a wheel needs setuptools, which is not installed")
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, source / part)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name.removeprefix("jitune/") for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(site)
    parts = [p for p in (ROOT / "jitune").rglob("*") if p.suffix in (".py", ".jinja", ".js", ".css")]
    assert held == {str(p.relative_to(ROOT / "jitune")) for p in parts} | {
        f"configs/{p.name}" for p in (ROOT / "configs").iterdir() if p.suffix == ".py"}
    ask = (
        "import json, jitune; from jitune import config as c\n"
        "print(json.dumps([jitune.__file__, c.read('sft').to_dict()]))"
    )
    out = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, check=True, capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(site)})
    file, sft = json.loads(out.stdout)
    assert file.startswith(str(site)) and sft == configs.read("sft").to_dict()
