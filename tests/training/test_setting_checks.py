"""Every setting under `trainer:` is known to be usable before anything is trained."""

from pathlib import Path

import pytest

from seccoderx_lite import load_recipe
from seccoderx_lite.core.errors import SeccoderxError
from seccoderx_lite.stages import start_checks

WRONG = {
    "adam_beta3: 1": r"policy\.grpo\.trainer\.adam_beta3: unknown setting; did you mean adam_beta2",
    "adam_beta2: x": r"adam_beta2: must be a finite number \(got 'x'\)",
    "adam_beta2: 7": r"policy\.grpo\.trainer: cannot be used \(Invalid beta.*adam_beta2: 7",
    "lr_scheduler_type: fly": r"fly is not a valid SchedulerType",
    "optim: fly": r"fly is not a valid OptimizerNames",
    "warmup_steps: -1": r"warmup_steps",
    "max_grad_norm: .inf": r"finite numbers only \(got inf\) \(got {'max_grad_norm'",
    "loss_type: fly": r"loss_type: must be one of grpo, bnpo",
    "gradient_checkpointing: 3": r"gradient_checkpointing: must be true or false",
}


@pytest.mark.parametrize("setting", WRONG)
def test_a_wrong_setting_is_named_before_training(setting):
    with pytest.raises(SeccoderxError, match=WRONG[setting]):
        start_checks.check_policy(load_recipe("tiny", [f"policy.grpo.trainer={{{setting}}}"]))


def test_the_settings_of_the_supervised_stages_are_checked_too():
    recipe = load_recipe("tiny", ["judge.cold_start.trainer={loss_type: fly}"])
    with pytest.raises(SeccoderxError, match=r"judge\.cold_start\.trainer|loss_type"):
        start_checks.check_judge(recipe, "cold_start")


def test_the_settings_of_the_tiny_recipe_pass():
    recipe = load_recipe("tiny")
    start_checks.check_judge(recipe, "cold_start")
    start_checks.check_judge(recipe, "align")
    start_checks.check_policy(recipe)


@pytest.mark.parametrize(("gib", "is_warned"), [(2, True), (1000, False)])
def test_a_run_that_may_need_more_memory_than_there_is_starts_with_a_warning(
    monkeypatch, caplog, gib, is_warned
):
    monkeypatch.setattr(start_checks, "main_memory_bytes", lambda: gib << 30)
    monkeypatch.setattr(start_checks, "describe_gpu", lambda: None)
    start_checks.warn_of_memory(load_recipe("tiny"))
    assert ("the recipe does not fit in 2.0 GiB" in caplog.text) == is_warned
    assert ("smallest change that makes it fit: -o" in caplog.text) == is_warned


def test_a_run_that_needs_more_room_than_the_disk_has_is_refused(monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr(start_checks.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(
        SeccoderxError, match=r"needs up to .* GiB .*checkpoints.*export.*0\.0 free"
    ):
        start_checks.check_disk(load_recipe("tiny"), Path(tmp_path))
