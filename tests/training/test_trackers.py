"""Curves in outside trackers: one run a stage."""

import os
import sys
from types import SimpleNamespace

import pytest

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.stages.pipeline import train
from seccoderx_lite.training.trackers import finish_stage, tracker_arguments


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("seccoderx_lite.training.trackers.find_spec", lambda name: None)
    recipe = check_recipe(
        {
            "name": "small",
            "model": {"base": "builtin:tiny"},
            "report_to": ["trackio"],
            "evaluate": {"suites": ["builtin:tiny"]},
        },
        "small",
    )
    with pytest.raises(RecipeError, match=r"report_to: .* `pip install trackio`"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_each_stage_is_a_run_of_its_own():
    arguments = [tracker_arguments(["trackio"], "small", stage) for stage in ("align", "policy")]
    assert [each["run_name"] for each in arguments] == ["small align", "small policy"]


@pytest.mark.parametrize(("chosen", "project"), [(None, "seccoderx-lite"), ("mine", "mine")])
def test_weights_and_biases_gets_the_users_project_or_the_toolkits(monkeypatch, chosen, project):
    monkeypatch.setitem(os.environ, "WANDB_PROJECT", chosen or "")  # put back afterwards
    if chosen is None:
        del os.environ["WANDB_PROJECT"]
    tracker_arguments(["wandb"], "small", "policy")
    assert os.environ["WANDB_PROJECT"] == project


def test_the_run_in_weights_and_biases_ends_with_its_stage(monkeypatch):
    ended = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(finish=lambda: ended.append(True)))
    finish_stage(["tensorboard"])
    assert not ended
    finish_stage(["tensorboard", "wandb"])
    assert ended == [True]
