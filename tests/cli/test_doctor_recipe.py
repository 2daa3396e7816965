"""What of a recipe a machine cannot do is named with the way out."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from seccoderx_lite.cli import doctor_recipe
from seccoderx_lite.cli.app import app
from seccoderx_lite.cli.doctor_recipe import faults
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.sandbox import languages
from seccoderx_lite.stages import start_checks

GO_TASK = {
    "id": "go",
    "prompt": "Print 1.",
    "language": "go",
    "tests": {"kind": "stdio", "functionality": [{"stdin": "", "stdout": "1"}]},
}
ENDPOINT = {"url": "http://localhost:1/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}


def recipe(**sections):
    model = {"base": "builtin:tiny", "lora": {"rank": 4}}
    return check_recipe({"name": "r", "model": model, **sections}, "test")


def policy(**fields):
    return {"tasks": "builtin:tiny", "reward": {"judge": False}, **fields}


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (
            {"policy": policy(tasks="no/such/file.jsonl")},
            "policy: policy.tasks: no/such/file.jsonl",
        ),
        ({"evaluate": {"suites": ["cweval:nowhere"]}}, "evaluate: cweval: "),
        ({"evaluate": {"suites": ["builtin:tiny"], "endpoint": ENDPOINT}}, "NO_SUCH_KEY is not"),
        (
            {"policy": policy(), "report_to": ["trackio"]},
            "report_to: the package trackio is not installed",
        ),
        (
            {"evaluate": {"suites": ["builtin:tiny"]}, "sandbox": {"packages": ["nosuch"]}},
            "sandbox.packages: nosuch is not installed",
        ),
        (
            {
                "policy": policy(),
                "export": {"formats": ["gguf"], "llama_cpp": "/nowhere"},
            },
            "gguf",
        ),
        (
            {
                "model": {"base": "builtin:tiny", "quantization": "none"},
                "policy": policy(grpo={"rollout_engine": "vllm"}),
            },
            "rollout_engine: vllm cannot be used",
        ),
    ],
)
def test_a_fault_is_named(sections, expected, monkeypatch):
    monkeypatch.setattr(doctor_recipe, "works_in_four_bits", lambda: None)
    found = list(faults(recipe(**sections)))
    assert len([line for line in found if expected in line]) == 1, found
    assert all("\n" not in line for line in found)


def test_a_language_without_its_tools_is_named_with_its_tasks(tmp_path, monkeypatch):
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps(GO_TASK) + "\n")
    tool = languages.find_tool
    monkeypatch.setattr(
        languages, "find_tool", lambda names: None if "go" in names else tool(names)
    )
    found = list(faults(recipe(evaluate={"suites": [str(file)]})))
    assert len(found) == 1 and found[0].startswith("1 tasks in go would be unscored: ")
    assert "apt install golang-go" in found[0]


def test_too_little_memory_or_disk_is_named(monkeypatch):
    monkeypatch.setattr(start_checks, "main_memory_bytes", lambda: 1 << 20)
    monkeypatch.setattr(start_checks, "describe_gpu", lambda: None)
    usage = type("Usage", (), {"free": 1})
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    found = list(faults(recipe(policy=policy())))
    assert found[0].startswith("memory: the recipe does not fit")
    assert "the disk has 0.0 free" in found[1] and len(found) == 2


def test_the_command_ends_with_the_verdict(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(
        "name: r\nmodel: {base: 'builtin:tiny'}\nevaluate: {suites: ['builtin:tiny']}\n"
    )
    done = CliRunner().invoke(app, ["doctor", str(file)])
    assert done.exit_code == 0 and "this machine can run it" in done.output, done.output
    done = CliRunner().invoke(app, ["doctor", str(file), "-o", "evaluate.suites=[nowhere.jsonl]"])
    assert done.exit_code == 1 and "cannot   evaluate: nowhere.jsonl" in done.output
