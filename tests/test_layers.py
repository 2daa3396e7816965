"""Imports go downwards only, stages never import each other, heavy packages stay at the edge."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "seccoderx_lite"

LAYERS = (
    {"errors", "records", "cwe", "syntax", "functions", "prompting", "progress"},
    {"intervals", "metrics", "detection_metrics", "calibration", "detection_report"},
    {"recipe", "recipe_sections", "recipe_reading", "synth_recipe", "run_folder", "folder_files"},
    {
        "backends",
        "roles",
        "merged",
        "decoding",
        "role_proofs",
        "processes",
        "gguf_file",
        "hub",
        "shapes",
        "estimate",
        "fitting",
        "estimate_command",
        "choice",
        "prefix_cache",
        "codeshield_rules",
        "chat_client",
        "generation",
        "endpoint",
        "sandbox",
        "environment",
        "model_card",
        "datasets",
        "dataset_files",
        "dataset_columns",
        "labelled_layouts",
        "source_files",
    },
    {"verdict_cache", "judge"},
    {"analysers", "judge_loading"},
    {"rewards", "alarms"},
    {"suites", "synthesis"},
    {"reporting"},
    {"training", "training_order", "out_of_memory", "trackers"},
    {"stages"},
    {"pipeline", "integrations", "eval_code", "eval_judge", "scan_report"},
    {"bench", "scan_command", "cli_progress"},
    {"cli", "cli_eval", "__main__"},
)
LAYER_OF = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
HEAVY = {
    "trl": {"training.py"},
    "peft": {"roles.py", "merged.py", "stages/export.py"},
    "bitsandbytes": {"environment.py"},
    "unsloth": {"backends.py"},
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name != "__init__.py" and not name.startswith("builtin/"):
            yield name, ast.parse(path.read_text())


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


MODULES = list(modules())


@pytest.mark.parametrize(("name", "tree"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_go_downwards_only(name, tree):
    room = name.split("/")[0].removesuffix(".py")
    for target in imported(tree):
        if target.startswith("seccoderx_lite.") and not target.startswith("seccoderx_lite.builtin"):
            other = target.split(".")[1]
            assert LAYER_OF[other] <= LAYER_OF[room], f"{name} imports {target}"


def test_stages_do_not_import_each_other():
    for name, tree in MODULES:
        if name.startswith("stages/"):
            assert not [t for t in imported(tree) if t.startswith("seccoderx_lite.stages")], name


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_stay_where_they_belong(package):
    users = {name for name, tree in MODULES if package in {t.split(".")[0] for t in imported(tree)}}
    assert users == HEAVY[package]
