"""Recipes of the package by name, their schema, and a new commented recipe."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from seccoderx_lite.cli import recipes as work
from seccoderx_lite.cli.app import app
from seccoderx_lite.cli.options import complete_recipe
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.recipe.commented import commented_recipe
from seccoderx_lite.recipe.recipe import load_as, load_recipe
from seccoderx_lite.recipe.shipped import find_recipe, shipped_recipes
from seccoderx_lite.recipe.synth import SynthRecipe

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_recipes_lists_every_recipe_within_80_columns():
    lines = run("recipes").stdout.splitlines()
    assert [line for line in lines if line[0] != " "] == [file.stem for file in FILES]
    assert all(len(line) <= 80 for line in lines)


def test_recipes_prints_a_recipe_by_name():
    assert run("recipes", "tiny").stdout == (ROOT / "recipes" / "tiny.yaml").read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_schema_accepts_every_recipe_of_its_kind(file):
    schema = json.loads(work.schema(file.stem))
    errors = jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(file.read_text()))
    assert [error.message for error in errors] == []


def test_the_schema_knows_the_documentation_and_refuses_unknown_keys():
    schema = json.loads(run("recipes", "--schema").stdout)
    steps = schema["$defs"]["GrpoRecipe"]["properties"]["steps"]
    assert "raise it to extend a finished run" in steps["description"]
    with pytest.raises(jsonschema.ValidationError, match="bse"):
        jsonschema.validate({"name": "x", "model": {"bse": "y"}}, schema)


def test_a_file_has_priority_over_a_recipe_of_the_package(folder):
    assert find_recipe("tiny") == shipped_recipes()["tiny"]
    (folder / "tiny").write_text("name: mine")
    assert find_recipe("tiny") == Path("tiny")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("tinny", "did you mean tiny?"), ("qwen2.5-coder-7b", "did you mean qwen2.5-coder-"),
     ("xyz", "`seccoderx-lite recipes`")],
)  # fmt: skip
def test_an_unknown_name_is_refused_with_the_nearest_one(folder, name, hint):
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("model", "name", "command"), [(None, "synth-tiny", "synth"), (SynthRecipe, "tiny", "train")]
)
def test_a_recipe_of_the_other_kind_is_refused_with_its_command(model, name, command):
    with pytest.raises(RecipeError, match=f"run: seccoderx-lite {command} "):
        load_as(model, name) if model else load_recipe(name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("defaults", ["commented out", "active"])
def test_a_commented_recipe_loads_to_the_same_recipe(tmp_path, file, defaults):
    model = SynthRecipe if file.stem.startswith("synth") else None
    recipe = load_as(model, file) if model else load_recipe(file)
    text = commented_recipe(recipe)
    if defaults == "active":
        text = re.sub(r"^( *)#(?! \S)", r"\1", text, flags=re.MULTILINE)
    copy = tmp_path / "copy.yaml"
    copy.write_text(text)
    assert (load_as(model, copy) if model else load_recipe(copy)) == recipe


def test_init_writes_a_recipe_for_this_machine_in_which_fields_are_explained(folder):
    done = run("init", "mine.yaml")
    assert done.exit_code == 0, done.output
    assert "seccoderx-lite train mine.yaml" in done.stdout
    recipe, start = load_recipe("mine.yaml"), load_recipe("tiny")
    assert recipe.name == "mine" and recipe.policy == start.policy
    text = (folder / "mine.yaml").read_text()
    assert "# Completions sampled per prompt; their rewards" in text and "#rollout_engine:" in text


def test_init_fits_the_recipe_to_a_card(folder):
    done = run("init", "mine.yaml", "--base", "builtin:tiny", "--card", "a10")
    assert done.exit_code == 0, done.output
    recipe = load_recipe("mine.yaml")
    assert recipe.model.base == "builtin:tiny"
    assert recipe.policy.tasks == load_recipe("qwen2.5-coder-7b-24gb").policy.tasks
    assert re.search(r"estimated peak memory \d+\.\d of 22 GiB", done.stdout)


def test_init_never_overwrites(folder):
    (folder / "mine.yaml").write_text("precious")
    assert isinstance(run("init", "mine.yaml").exception, RecipeError)
    assert (folder / "mine.yaml").read_text() == "precious"


def test_the_shell_completes_names_and_files(folder):
    (folder / "tin.yaml").write_text("")
    (folder / "other.txt").write_text("")
    (folder / "more").mkdir()
    assert complete_recipe("ti") == ["tiny", "tin.yaml"]
    assert complete_recipe("mo") == ["more/"]


@pytest.mark.parametrize("arguments", [["-h"], ["train", "-h"], ["eval", "code", "-h"]])
def test_short_help_works_everywhere(arguments):
    assert "Usage" in run(*arguments).stdout


def test_the_version_is_that_of_the_package():
    assert re.fullmatch(r"seccoderx-lite \d+\.\d+\.\d+\n", run("--version").stdout)
