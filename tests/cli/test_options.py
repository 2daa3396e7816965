"""Options that several commands share."""

import pytest
import typer

from seccoderx_lite.cli.app import app
from seccoderx_lite.cli.options import judge_settings
from seccoderx_lite.core.errors import RecipeError


def test_an_override_takes_precedence_over_the_option_for_the_same_field():
    settings = judge_settings(["judge.verdict=direct", "judge.batch_size=8"], verdict="reason")
    assert settings == {"verdict": "direct", "batch_size": 8}


def test_only_fields_of_the_judge_can_be_overridden_without_a_recipe():
    with pytest.raises(RecipeError, match=r"-o model: .* judge\.max_new_tokens=256"):
        judge_settings(["model.base=x"])


def test_an_option_of_several_commands_has_one_meaning():
    """Where results are kept is --run-folder and what is written elsewhere --output."""
    root = typer.main.get_command(app)
    commands = {**root.commands, **root.commands["eval"].commands}
    commands.pop("eval")
    options = {
        name: {option for each in command.params for option in each.opts}
        for name, command in commands.items()
    }
    with_run_folder = {name for name, names in options.items() if "--run-folder" in names}
    with_output = {name for name, names in options.items() if "--output" in names}
    with_override = {name for name, names in options.items() if {"-o", "--override"} <= names}
    assert with_run_folder == {"train", "audit", "synth", "code", "judge"}
    assert with_output == {"report", "audit", "export", "scan", "bench", "code", "judge"}
    assert with_override == {
        "train",
        "audit",
        "synth",
        "bench",
        "doctor",
        "estimate",
        "code",
        "judge",
        "scan",
    }
