"""TensorBoard, Weights & Biases and trackio: training curves in addition to `metrics.jsonl`.

Each stage is one run there, named `<recipe> <stage>`, in the project `seccoderx-lite` (for Weights
& Biases in `WANDB_PROJECT`, if that is set), with everything that TRL logs and every part of the
reward.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from seccoderx_lite.core.errors import RecipeError

PROJECT = "seccoderx-lite"


def require_trackers(names: Sequence[str]) -> None:
    """Check that the packages of `report_to` are installed.

    Raises:
        RecipeError: one is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise RecipeError(
                f"report_to: the package {name} is not installed; `pip install {name}`, "
                "or remove it from report_to"
            )


def tracker_arguments(names: Sequence[str], recipe: str, stage: str) -> dict[str, Any]:
    """Return the trainer's arguments that start a run of this stage in each tracker."""
    if "wandb" in names:
        os.environ.setdefault("WANDB_PROJECT", PROJECT)
    return {
        "report_to": list(names) or "none",
        "run_name": f"{recipe} {stage}",
        "project": PROJECT,
    }


def finish_stage(names: Sequence[str]) -> None:
    """End the stage's run; otherwise Weights & Biases would add the next stage's curves to it."""
    if "wandb" in names:
        import_module("wandb").finish()
