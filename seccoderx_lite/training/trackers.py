"""TensorBoard, Weights & Biases and trackio: training curves besides the run's `metrics.jsonl`.

Each stage is one run there, named `<recipe> <stage>`, in the project `seccoderx-lite` (for Weights
& Biases in `WANDB_PROJECT`, if that is set). It gets what TRL logs, and every part of the reward.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from seccoderx_lite.core.errors import RecipeError

PROJECT = "seccoderx-lite"


def require_trackers(names: Sequence[str]) -> None:
    """Check that the packages behind `report_to` are there, before anything is computed.

    Raises:
        RecipeError: one is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise RecipeError(
                f"report_to: the package {name} is not installed; pip install {name}, "
                "or take it out of report_to"
            )


def tracker_arguments(names: Sequence[str], recipe: str, stage: str) -> dict[str, Any]:
    """Return the trainer's arguments that open a run of this stage in each tracker."""
    if "wandb" in names:
        os.environ.setdefault("WANDB_PROJECT", PROJECT)
    return {
        "report_to": list(names) or "none",
        "run_name": f"{recipe} {stage}",
        "project": PROJECT,
    }


def finish_stage(names: Sequence[str]) -> None:
    """Close the stage's run; Weights & Biases would put the next stage's curves into it."""
    if "wandb" in names:
        import_module("wandb").finish()
