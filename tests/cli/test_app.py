"""The command line as a user sees it: help, exit codes, one message per error."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command_line import run

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.recipe.recipe import load_as
from seccoderx_lite.recipe.synth import SynthRecipe

ROOT = Path(__file__).parents[2]


def test_the_package_runs_as_a_module_and_ends_with_the_exit_code_of_the_command():
    command = [sys.executable, "-m", "seccoderx_lite", "train", "nowhere.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "nowhere.yaml" in done.stderr) == (2, True)


def test_help_names_every_command():
    text = run("--help").stdout
    commands = (
        "train",
        "audit",
        "synth",
        "eval",
        "scan",
        "estimate",
        "bench",
        "export",
        "report",
        "doctor",
    )
    assert all(command in text for command in commands)


def test_train_help_explains_resuming_and_overrides():
    text = run("train", "--help").stdout
    assert "resumes it from the last checkpoint" in " ".join(text.split())
    assert "policy.grpo.steps=50" in text


def write(folder: Path, text: str) -> str:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return str(file)


WRONG_RECIPES = {
    "an unknown key": ("name: x\nmodel: {bse: a}\nevaluate: {suites: [a]}", "model.bse", "base"),
    "a wrong type": (
        "name: x\nseed: many\nmodel: {base: a}\nevaluate: {suites: [a]}",
        "seed",
        "many",
    ),
    "no mapping": ("- 1", "recipe.yaml", "key: value"),
    "nothing to do": ("name: x\nmodel: {base: a}", "nothing to do", "judge"),
}


@pytest.mark.parametrize(("text", "named", "hint"), WRONG_RECIPES.values(), ids=WRONG_RECIPES)
def test_a_wrong_recipe_is_refused_with_exit_code_2(tmp_path, text, named, hint):
    done = run("train", write(tmp_path, text), cwd=tmp_path)
    assert done.returncode == 2
    assert named in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_missing_recipe_is_named(tmp_path):
    done = run("train", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr


SMALL = "name: x\nmodel: {base: BASE}\nevaluate: {suites: [SUITE], samples: 1, limit: 1}"
FAILURES = {
    "a base that is not there": (
        SMALL.replace("BASE", "./nobase").replace("SUITE", "builtin:tiny"),
        "nobase",
    ),
    "an unknown builtin base": (
        SMALL.replace("BASE", "builtin:huge").replace("SUITE", "builtin:tiny"),
        "builtin:tiny",
    ),
    "tasks that are not there": (
        SMALL.replace("BASE", "builtin:tiny").replace("SUITE", "./notasks.jsonl"),
        "notasks.jsonl",
    ),
}


@pytest.mark.parametrize(("text", "named"), FAILURES.values(), ids=FAILURES)
def test_work_that_fails_ends_with_exit_code_1_and_one_message(tmp_path, text, named):
    done = run("train", write(tmp_path, text), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_another_recipe_is_left_alone(tmp_path):
    recipe = write(tmp_path, "name: x\nmodel: {base: ./nobase}\nevaluate: {suites: [builtin:tiny]}")
    run("train", recipe, cwd=tmp_path)
    (tmp_path / "runs" / "x" / "answers.jsonl").write_text("")  # it has begun to evaluate
    before = (tmp_path / "runs" / "x" / "recipe.yaml").read_text()
    done = run("train", recipe, "-o", "seed=7", cwd=tmp_path)
    assert done.returncode == 1
    assert "seed" in done.stderr
    assert "--fresh" in done.stderr
    assert (tmp_path / "runs" / "x" / "recipe.yaml").read_text() == before


def test_a_report_of_something_else_than_a_run_is_refused(tmp_path):
    done = run("report", str(tmp_path))
    assert done.returncode == 1
    assert "is not a run folder" in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in run("--debug", "report", str(tmp_path)).stderr


def test_estimate_prints_a_table_and_fails_if_the_recipe_does_not_fit():
    done = run("estimate", "recipes/tiny.yaml", "--memory", "16GB", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "base weights" in done.stdout
    assert "fits in 16.0 GiB with" in done.stdout
    small = run("estimate", "recipes/tiny.yaml", "--memory", "1GB", cwd=ROOT)
    assert small.returncode == 1
    assert "the smallest change that makes it fit: -o " in small.stdout


def test_doctor_shows_what_the_machine_offers():
    done = run("doctor")
    assert done.returncode == 0, done.stderr
    assert "4-bit    works" in done.stdout
    assert "sandbox" in done.stdout
    for language in ("python", "javascript", "c", "cpp", "java", "go"):
        assert re.search(rf"^ +{language} +(/|missing: )", done.stdout, re.MULTILINE)


def test_synth_help_explains_how_to_use_your_own_code():
    text = " ".join(run("synth", "--help").stdout.split())
    assert '{"code": "...", "language": "python", "cwe": "CWE-89"}' in text
    assert "generator.max_cost" in text


WRONG_SYNTHESES = {
    "an unknown key": ("generator: {modle: m}", "generator.modle", "generator.model"),
    "a cap without prices": (
        "generator: {model: m, endpoint: 'http://x/v1', max_cost: 1}",
        "max_cost",
        "input_price",
    ),
    "a key for a local model": ("generator: {model: m, api_key_env: K}", "api_key_env", "endpoint"),
    "no reference for the published columns": (
        "generator: {model: m}\nlayouts: [seccoderx]",
        "layouts",
        "model",
    ),
    "nothing left to train on": (
        "generator: {model: m}\nsplits: {held_out: 1.0}",
        "splits.held_out",
        "below 1",
    ),
}


@pytest.mark.parametrize(
    ("text", "named", "hint"), WRONG_SYNTHESES.values(), ids=list(WRONG_SYNTHESES)
)
def test_a_wrong_synthesis_is_refused_by_name(tmp_path, text, named, hint):
    file = tmp_path / "recipe.yaml"
    file.write_text(f"name: x\nseeds: {{data: a.jsonl}}\n{text}")
    with pytest.raises(RecipeError) as refused:
        load_as(SynthRecipe, file)
    assert named in str(refused.value) and hint in str(refused.value)


SCANS = {
    "a path that is missing": (["nowhere.py", "--judge", "builtin:tiny"], 2, "nowhere.py"),
    "an unknown format": (["x.py", "--judge", "builtin:tiny", "--format", "xml"], 2, "--format"),
    "a judge that cannot be loaded": (["x.py", "--judge", "./nojudge"], 3, "nojudge"),
}


@pytest.mark.parametrize(("arguments", "code", "named"), SCANS.values(), ids=SCANS)
def test_a_scan_that_fails_has_another_exit_code_than_one_with_findings(
    tmp_path, arguments, code, named
):
    (tmp_path / "x.py").write_text("def f(): pass")
    done = run("scan", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert named in done.stderr and "Traceback" not in done.stderr


def test_a_reader_that_stops_reading_is_not_a_failure(tmp_path):
    command = f"{sys.executable} -m seccoderx_lite recipes codellama-7b-24gb"
    script = f"set -o pipefail; {command} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_an_unexpected_error_is_one_message_and_a_file_with_the_traceback():
    script = (
        "import sys, seccoderx_lite.cli.recipes as work\n"
        "def fail(): raise ZeroDivisionError('by zero')\n"
        "work.listing = fail\n"
        "from seccoderx_lite.cli.app import main\n"
        "sys.argv = ['seccoderx-lite', 'recipes']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    first, second = done.stderr.splitlines()
    assert (done.returncode, first) == (1, "error: internal error: ZeroDivisionError: by zero")
    kept = Path(second.removeprefix("the traceback is in "))
    assert "line 2, in fail" in kept.read_text()
    kept.unlink()


def test_ctrl_c_outside_of_safe_points_ends_with_one_word_and_130():
    script = (
        "import os, signal, sys, seccoderx_lite.cli.recipes as work\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "work.listing = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "from seccoderx_lite.cli.app import main\n"
        "sys.argv = ['seccoderx-lite', 'recipes']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
