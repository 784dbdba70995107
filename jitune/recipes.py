"""The configs that come with jitune: `find("sft")` is the path of configs/sft.py.

They lie in the folder `configs` of a checkout, and in the package once it is installed (see setup.py).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from jitune.types import UserError

HOMES = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")


def names(command: str = "train") -> list[str]:
    """The names of all recipes of a command, such as ["sft", "sft_llama_1b_gpu"]."""
    return sorted(path.stem for path in _files() if path.stem != "__init__" and command_of(path) == command)


def find(name: str, command: str = "train") -> Path:
    """The file that `--config NAME` means: a path, or the name of a recipe.

    Raises UserError where there is neither, and lists the command's recipes with their meaning; and where the file
    says that it is for another command.
    """
    recipes = {recipe.stem: recipe for recipe in sorted(_files(), key=lambda p: p.stem)}
    path = Path(name) if Path(name).is_file() else recipes.get(name)
    if path is None:
        known = "; ".join(f"{n} ({meaning(recipes[n])})" for n in names(command))
        raise UserError(f"{name}: no such config file; the recipes that come with jitune are {known}")
    said = command_of(path)
    if said and said != command:
        raise UserError(f"{name}: is a config of `jitune {said}`, not of `jitune {command}`")
    return path


def command_of(recipe: Path) -> str:
    """The command that a config file's docstring begins with: "jitune data curate --config ..." -> "data curate"."""
    try:
        first = (ast.get_docstring(ast.parse(recipe.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    except (SyntaxError, ValueError):  # reading it says so
        return ""
    found = re.match(r"jitune ([a-z ]+?) --", first)
    return found[1] if found else ""


def meaning(recipe: Path) -> str:
    """What a recipe is for: the first clause after the command that its docstring begins with."""
    paragraphs = (ast.get_docstring(ast.parse(recipe.read_text(encoding="utf-8"))) or "").split("\n\n")
    return re.split(r"[:.](?:\s|$)", " ".join(paragraphs[-1 if len(paragraphs) < 2 else 1].split()))[0]


def _files() -> list[Path]:
    home = next((home for home in HOMES if (home / "sft.py").is_file()), None)
    return list(home.glob("*.py")) if home else []
