"""The recipes that come with the package, by name."""

import difflib
import itertools
from pathlib import Path

from seccoderx_lite.core.errors import RecipeError

_INSTALLED = Path(__file__).parents[1] / "recipes"
_CHECKOUT = Path(__file__).parents[2] / "recipes"


def shipped_recipes() -> dict[str, Path]:
    """Return the file of each recipe by name: of the installed package, else of the checkout."""
    folder = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find_recipe(name: Path | str) -> Path:
    """Return the file of a recipe: a path, or the name of one that comes with the package.

    Raises:
        RecipeError: the name is not a file and not a recipe of the package.
    """
    path = Path(name)
    shipped = shipped_recipes()
    if path.is_file() or path.suffix in (".yaml", ".yml") or len(path.parts) != 1:
        return path
    if path.name in shipped:
        return shipped[path.name]
    near = difflib.get_close_matches(path.name, shipped, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise RecipeError(
        f"{path}: no such recipe file in {Path.cwd()}, and the package has none of this name; "
        f"{hint}check the path, or take a name that `seccoderx-lite recipes` lists"
    )


def summary_of(file: Path) -> str:
    """Return the first sentence of a recipe's leading comment."""
    lines = itertools.takewhile(lambda line: line[:1] == "#", file.read_text("utf-8").splitlines())
    text = " ".join(line.removeprefix("#").strip() for line in lines)
    return text.partition(". ")[0].rstrip(".") + "."
