"""What ships: recipes that load, and a wheel that works far from the checkout."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from seccoderx_lite.recipe.recipe import Recipe, load_as
from seccoderx_lite.recipe.synth import SynthRecipe

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
PAGES = [
    page
    for folder in ("", "recipes", "seccoderx_lite", "tests")
    for page in sorted((ROOT / folder).glob("**/README.md" if folder else "README.md"))
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_every_recipe_loads(recipe):
    model = SynthRecipe if recipe.stem.startswith("synth") else Recipe
    assert load_as(model, recipe).name == recipe.stem


def test_a_wheel_carries_the_tiny_world_and_works_outside_the_checkout(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    recipes = {f"seccoderx_lite/recipes/{file.name}" for file in RECIPES}
    with zipfile.ZipFile(wheel) as archive:
        assert {n for n in archive.namelist() if n.startswith("seccoderx_lite/recipes/")} == recipes
    script = (
        "import seccoderx_lite as sl; sl.load_recipe('tiny')\n"
        "import seccoderx_lite.judge.prompt, seccoderx_lite.core.cwe as cwe\n"
        "from pathlib import Path\n"
        f"assert Path(sl.__file__).is_relative_to({str(tmp_path)!r})\n"
        "print(len(sl.load_tasks('builtin:tiny')), len(sl.load_labelled('builtin:tiny')))\n"
        "from seccoderx_lite.data.builtin.world import load_templates\n"
        "from seccoderx_lite.models.base import resolve_base\n"
        "print(len(load_templates()))\n"
        "print([file.name for file in Path(resolve_base('builtin:tiny')).iterdir()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "model.safetensors" in done.stdout


def test_the_tiny_base_takes_at_most_eight_megabytes():
    folder = ROOT / "seccoderx_lite" / "data" / "builtin" / "tiny" / "model"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8_000_000


def headings(page):
    """The anchors of a page, as GitHub makes them."""
    for title in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_readme_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link
