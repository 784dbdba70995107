"""The configs that come with jitune: `find("sft")` is the path of configs/sft.py.

They lie in the folder `configs` of a checkout, and in the package once it is installed (see setup.py).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from jitune.types import UserError

HOMES = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")


def names() -> list[str]:
    """The names of all recipes, such as ["sft", "sft_llama_1b_gpu"]."""
    return sorted(path.stem for path in _files() if path.stem != "__init__")


def find(name: str) -> Path:
    """The file that `--config NAME` means: a path, or the name of a recipe.

    Raises UserError where there is neither, and lists the recipes with their meaning.
    """
    path = Path(name)
    if path.is_file():
        return path
    for recipe in _files():
        if name == recipe.stem:
            return recipe
    known = "; ".join(f"{recipe.stem} ({meaning(recipe)})" for recipe in sorted(_files(), key=lambda p: p.stem))
    raise UserError(f"{name}: no such config file; the recipes that come with jitune are {known}")


def meaning(recipe: Path) -> str:
    """What a recipe is for: the first clause after the command that its docstring begins with."""
    paragraphs = (ast.get_docstring(ast.parse(recipe.read_text(encoding="utf-8"))) or "").split("\n\n")
    return re.split(r"[:.](?:\s|$)", " ".join(paragraphs[-1 if len(paragraphs) < 2 else 1].split()))[0]


def _files() -> list[Path]:
    home = next((home for home in HOMES if (home / "sft.py").is_file()), None)
    return list(home.glob("*.py")) if home else []
