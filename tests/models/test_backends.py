"""Backends: which one is taken, the error where unsloth is missing, and unsloth on a CPU.

What unsloth changes cannot be unchanged, so its tests need a process of their own in which it is
imported first: `pytest -p unsloth`. The slow test starts one.
"""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import transformers  # noqa: F401  what unsloth must come before

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.models.backends import chosen_backend, use_backend
from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.recipe import ModelRecipe, check_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.settings import sft_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_sft_trainer

TESTS = Path(__file__).parents[1]
UNSLOTH = ModelRecipe(base="builtin:tiny", backend="unsloth")
INSTALLED = find_spec("unsloth") is not None
needs_unsloth = pytest.mark.skipif(not INSTALLED, reason="needs the extra [unsloth]")
imported_first = pytest.mark.skipif(
    "unsloth" not in sys.modules, reason="unsloth must be imported first: pytest -p unsloth"
)


def test_auto_is_transformers_and_says_why():
    backend, why = chosen_backend(ModelRecipe(base="builtin:tiny"))
    assert backend == "transformers"
    assert "no measurement shows unsloth to be faster" in why


def test_a_named_backend_is_taken():
    assert chosen_backend(UNSLOTH) == ("unsloth", "set by model.backend")


@pytest.mark.skipif(INSTALLED, reason="unsloth is installed")
def test_missing_unsloth_is_an_error_that_says_how_to_get_it():
    with pytest.raises(ModelError, match=re.escape(install_command("unsloth"))):
        use_backend(UNSLOTH)


@needs_unsloth
@pytest.mark.skipif("unsloth" in sys.modules, reason="unsloth was imported first")
def test_unsloth_after_what_it_changes_is_refused():
    with pytest.raises(ModelError, match=r"must be imported before transformers.*import unsloth"):
        use_backend(UNSLOTH)


def test_unsloth_cannot_hold_the_judge_to_its_cold_start():
    document = {
        "name": "x",
        "model": {"base": "builtin:tiny", "backend": "unsloth"},
        "judge": {"align": {"data": "builtin:tiny", "kl": 0.02}},
    }
    with pytest.raises(
        ValueError, match=r"judge\.align\.kl: must be 0 with model\.backend unsloth"
    ):
        check_recipe(document, "x")
    document["judge"]["align"]["kl"] = 0.0
    assert check_recipe(document, "x").model.backend == "unsloth"


def losses_of_supervised_training(backend, folder):
    recipe = check_recipe(
        {
            "name": "x",
            "model": {"base": "builtin:tiny", "backend": backend},
            "judge": {
                "cold_start": {"data": "unread", "steps": 8, "batch_size": 2, "learning_rate": 5e-3}
            },
        },
        "x",
    )
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Say {word}."}],
            "completion": [{"role": "assistant", "content": word * 3}],
        }
        for word in ("one", "two")
    ]
    base = load_base(recipe.model)
    with RunFolder.open(folder, recipe) as run:
        recorder = StepRecorder("cold_start", run, lambda *values: None, PhaseClock())
        config = sft_config(recipe, recipe.judge.cold_start, run.checkpoints("judge/cold_start"))
        trainer = make_sft_trainer(base, recipe, config, rows, recorder)
        train(trainer, run.checkpoints("judge/cold_start"))
        return [row["loss"] for row in run.read_jsonl("metrics.jsonl")]


@imported_first
def test_unsloth_starts_at_the_loss_of_transformers_and_learns_as_fast(tmp_path):
    ours, theirs = (
        losses_of_supervised_training(backend, tmp_path / backend)
        for backend in ("transformers", "unsloth")
    )
    assert theirs[0] == pytest.approx(ours[0], abs=1e-3)
    assert ours[-1] < 0.5 * ours[0]
    assert theirs[-1] < 0.5 * theirs[0]


@pytest.mark.slow
@needs_unsloth
def test_roles_and_supervised_training_hold_on_unsloth():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "unsloth",
        "-k",
        "unsloth",
        "-p",
        "no:cacheprovider",
        "test_adapter_switch.py",
        "test_backends.py",
    ]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@needs_unsloth
def test_a_whole_run_on_unsloth(tmp_path):
    recipe = tmp_path / "unsloth.yaml"
    recipe.write_text("""
name: unsloth
model: {base: "builtin:tiny", backend: unsloth, lora: {rank: 4, alpha: 8}}
judge:
  verdict: direct
  cold_start: {data: "builtin:tiny", steps: 2, batch_size: 4}
  align: {data: "builtin:tiny", steps: 1, group_size: 2, prompts_per_step: 2, kl: 0.0,
          max_completion_tokens: 16}
  canaries: {every: 100, count: 4, refuse_chance: false}
policy:
  tasks: "builtin:tiny"
  grpo: {group_size: 2, prompts_per_step: 2, steps: 2, max_completion_tokens: 16}
evaluate: {suites: ["builtin:tiny"], samples: 1, greedy: false, limit: 2, max_completion_tokens: 16}
export: {formats: [adapter, merged], gate_tasks: 2}
""")
    command = [sys.executable, "-m", "seccoderx_lite", "train", recipe, "--run-folder"]
    subprocess.run([*map(str, command), str(tmp_path / "run")], check=True, timeout=900)
    steps = [
        (row["stage"], row["step"])
        for row in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    ]
    assert steps == [
        ("cold_start", 1),
        ("cold_start", 2),
        ("align", 1),
        ("policy", 1),
        ("policy", 2),
    ]
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["backend"] == "unsloth"
