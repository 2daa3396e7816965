"""`audit`: on task files and recipes, its exit code, and what `train` says of it."""

import json

import pytest
from rewards.test_audit import REFERENCE, TESTS, TWIN
from typer.testing import CliRunner

from seccoderx_lite.cli.app import app
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.recipe.recipe import load_recipe
from seccoderx_lite.rewards.attacks import ATTACKS
from seccoderx_lite.run.audit_record import audit_line
from seccoderx_lite.run.folder import RunFolder

ROW = {
    "id": "note",
    "prompt": "Write read_note.",
    "language": "python",
    "cwe": ["CWE-22"],
    "reference": REFERENCE,
    "tests": TESTS,
    "insecure": TWIN,
}


def audit(*arguments):
    return CliRunner().invoke(app, ["--quiet", "audit", *map(str, arguments)])


def task_file(path, *rows):
    path.write_text("\n".join(json.dumps({**ROW, **row}) for row in rows))
    return path


def test_a_sound_task_file_passes_with_a_row_per_attack(tmp_path):
    done = audit(task_file(tmp_path / "t.jsonl", {}), "--output", tmp_path / "audit.json")
    assert done.exit_code == 0, done.output
    assert all(attack.name in done.output for attack in ATTACKS)
    assert "no bad answer earns as much as honest code" in done.output
    result = json.loads((tmp_path / "audit.json").read_text())
    assert result["holes"] == [] and len(result["attacks"]) == len(ATTACKS)


def test_a_task_whose_security_tests_pass_its_twin_is_a_hole_and_is_named(tmp_path):
    weak = {**TESTS, "security": [{"args": ["x", "a"], "expect": "x: apples"}]}
    done = audit(task_file(tmp_path / "t.jsonl", {}, {"id": "weak", "tests": weak}))
    assert done.exit_code == 1
    assert "insecure twin" in done.output and "HOLE on 1 tasks, such as weak" in done.output
    assert "1 of 2 tasks: the security tests pass the insecure twin: weak" in done.output


RECIPE = """
name: x
model: {{base: "builtin:tiny"}}
policy:
  tasks: {tasks}
  reward: {{judge: false, {reward}}}
"""


@pytest.mark.parametrize(
    ("reward", "code", "says"),
    [
        ("security_tests: true", 0, "no bad answer that earns as much as honest code"),
        ("security_tests: false", 1, "that earn as much as honest code: ['insecure twin'"),
    ],
)
def test_a_recipe_is_audited_with_its_own_reward_and_train_says_so(tmp_path, reward, code, says):
    file = tmp_path / "recipe.yaml"
    tasks = task_file(tmp_path / "t.jsonl", {})
    file.write_text(RECIPE.format(tasks=tasks, reward=reward))
    recipe, folder = load_recipe(file), tmp_path / "run"
    assert audit_line(recipe, RunFolder.following(folder, recipe)).startswith(
        "this recipe was not audited"
    )
    done = audit(file, "--run-folder", folder)
    assert done.exit_code == code, done.output
    assert says in audit_line(recipe, RunFolder.existing(folder))
    other = load_recipe(file, ["policy.reward.functional_tests=true", "sandbox.timeout_s=3.0"])
    assert audit_line(other, RunFolder.existing(folder)).startswith("this recipe was not audited")
    with RunFolder.open(folder, load_recipe(file, ["seed=7"])):
        pass  # an audit does not bind the folder to its recipe


def test_the_tiny_recipe_has_no_hole(tmp_path):
    done = audit("tiny", "--tasks", 6, "--run-folder", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "not trained yet: every verdict is taken as safe" in done.output


def test_neither_a_recipe_nor_tasks_is_refused(tmp_path):
    done = audit("nothing-of-this-name")
    assert isinstance(done.exception, RecipeError)
    assert "neither a recipe" in str(done.exception)
