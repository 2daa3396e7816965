"""Teach a code model to write secure code that still works, on one GPU.

    import seccoderx_lite as sl

    recipe = sl.load_recipe("recipes/tiny.yaml", ["policy.grpo.steps=20"])
    folder = sl.train(recipe)

What needs torch is imported when it is first used.
"""

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seccoderx_lite.core.code_blocks import extract_code
    from seccoderx_lite.core.errors import SeccoderxError
    from seccoderx_lite.data.loading import load_labelled, load_tasks
    from seccoderx_lite.judge.judge import Judge
    from seccoderx_lite.judge.verdict import parse_verdict
    from seccoderx_lite.recipe.recipe import Recipe, load_recipe
    from seccoderx_lite.rewards.reward_formula import reward_parts
    from seccoderx_lite.sandbox import Limits, Sandbox
    from seccoderx_lite.stages.pipeline import train
    from seccoderx_lite.stages.scan import scan

_HOMES = {
    "Judge": "judge.judge",
    "Limits": "sandbox",
    "Recipe": "recipe.recipe",
    "Sandbox": "sandbox",
    "SeccoderxError": "core.errors",
    "extract_code": "core.code_blocks",
    "load_labelled": "data.loading",
    "load_recipe": "recipe.recipe",
    "load_tasks": "data.loading",
    "parse_verdict": "judge.verdict",
    "reward_parts": "rewards.reward_formula",
    "scan": "stages.scan",
    "train": "stages.pipeline",
}

# Waiting threads of torch would keep processors busy that the sandbox needs. It has an effect only
# before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# On a CPU bitsandbytes warns at every start that an optional kernel is not installed.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__all__ = [
    "Judge",
    "Limits",
    "Recipe",
    "Sandbox",
    "SeccoderxError",
    "extract_code",
    "load_labelled",
    "load_recipe",
    "load_tasks",
    "parse_verdict",
    "reward_parts",
    "scan",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
