"""Imports go downwards only, stages never import each other, heavy packages stay at the edge."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "seccoderx_lite"

FLOORS = (
    "cli", "stages", "evaluation", "training", "rewards", "reporting", "judge", "data", "run",
    "models", "recipe", "sandbox", "core",
)  # fmt: skip
"""The rooms from the top floor down; each imports only from rooms below it."""
HEAVY = {
    "trl": {"training/setting_checks.py", "training/settings.py", "training/trainers.py"},
    "peft": {
        "models/adapters.py",
        "models/adapter_switch.py",
        "models/export_files.py",
        "models/float_copies.py",
        "stages/export.py",
    },
    "bitsandbytes": {"run/environment.py"},
    "unsloth": {"models/backends.py"},
}
ABOVE_THE_STAGES = {
    f"stages/{name}.py"
    for name in ("finished_run", "pipeline", "stages_to_run", "stage_table", "start_checks")
}
"""Files that put the stages together."""


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if "/" in name:
            yield name, ast.parse(path.read_text())


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


MODULES = list(modules())


def test_the_root_holds_the_rooms_and_nothing_else():
    found = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert found == {*FLOORS, "__init__.py", "__main__.py"}


@pytest.mark.parametrize("room", FLOORS)
def test_every_room_says_what_it_is_for(room):
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))
    assert text


@pytest.mark.parametrize(("name", "tree"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_go_downwards_only(name, tree):
    room = name.split("/")[0]
    for target in imported(tree):
        if target.startswith("seccoderx_lite."):
            other = target.split(".")[1]
            assert FLOORS.index(other) >= FLOORS.index(room), f"{name} imports {target}"


def test_stages_do_not_import_each_other():
    for name, tree in MODULES:
        if name.startswith("stages/") and name not in ABOVE_THE_STAGES:
            assert not [t for t in imported(tree) if t.startswith("seccoderx_lite.stages")], name


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_stay_where_they_belong(package):
    users = {name for name, tree in MODULES if package in {t.split(".")[0] for t in imported(tree)}}
    assert users == HEAVY[package]
