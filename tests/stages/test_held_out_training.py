"""Held-out tasks in a real training: they change nothing in it, and the kept policy is exported."""

import pytest
import torch
from safetensors.torch import load_file

from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.stages import policy_training


def recipe_of(**policy):
    grpo = {"group_size": 2, "prompts_per_step": 2, "steps": 3, "learning_rate": 3e-3, "kl": 0.05}
    grpo |= {"curriculum": "spread"}
    document = {
        "name": "x",
        "model": {"base": "builtin:tiny", "lora": {"rank": 4}},
        "policy": {
            "tasks": "builtin:tiny",
            "reward": {"judge": False, "security_tests": True},
            "grpo": {**grpo, "max_completion_tokens": 48, "temperature": 1.0},
            **policy,
        },
    }
    return check_recipe(document, "x")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox("limits-only", workers=1) as opened:
        yield opened


def trained(path, recipe, sandbox):
    with RunFolder.open(path, recipe) as folder:
        summary = policy_training.run(recipe, folder, load_base(recipe.model), sandbox)
        return summary, list(folder.read_jsonl("metrics.jsonl")), weights(folder.policy_adapter)


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def test_measuring_held_out_tasks_leaves_training_as_it_was(tmp_path, sandbox):
    _, _, plain = trained(tmp_path / "plain", recipe_of(), sandbox)
    settings = {"every": 2, "count": 3, "samples": 1}
    recipe = recipe_of(held_out=settings, keep="best")
    summary, metrics, kept = trained(tmp_path / "watched", recipe, sandbox)
    measured = [row["step"] for row in metrics if "held_out_esr" in row]
    assert measured == [0, 2, 3]
    assert [row["step"] for row in metrics] == [0, 1, 2, 3]
    last = weights(tmp_path / "watched" / "policy" / "checkpoints" / "checkpoint-3")
    assert all(torch.equal(plain[name], last[name]) for name in plain)
    assert summary["last_step"] == 3 and summary["kept_step"] in measured
    candidate = tmp_path / "watched" / "policy" / "candidates" / f"step-{summary['kept_step']}"
    assert all(torch.equal(kept[name], value) for name, value in weights(candidate).items())


def test_training_that_gains_no_more_ends_early_and_is_finished(tmp_path, sandbox):
    settings = {"every": 1, "count": 3, "samples": 1, "window": 1, "min_gain": 1.0}
    recipe = recipe_of(held_out=settings)
    summary, metrics, _ = trained(tmp_path / "run", recipe, sandbox)
    # After two measurements, a gain of 1.0 is out of reach unless every task became secure.
    assert summary["last_step"] == 2 and metrics[-1]["step"] == 2
    assert (tmp_path / "run" / "policy" / "checkpoints" / "checkpoint-2").is_dir()
