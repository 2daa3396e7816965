"""Teach a code model to write secure code that still works, on one GPU.

    import seccoderx_lite as sl

    recipe = sl.load_recipe("recipes/tiny.yaml", ["policy.grpo.steps=20"])
    folder = sl.train(recipe)

What needs torch is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seccoderx_lite.datasets import load_labelled, load_tasks
    from seccoderx_lite.errors import SeccoderxError
    from seccoderx_lite.judge import Judge
    from seccoderx_lite.pipeline import train
    from seccoderx_lite.prompting import extract_code, parse_verdict
    from seccoderx_lite.recipe import Recipe, load_recipe
    from seccoderx_lite.rewards.composite import reward_parts
    from seccoderx_lite.sandbox import Limits, Sandbox
    from seccoderx_lite.stages.scan import scan

_HOMES = {
    "Judge": "judge",
    "Limits": "sandbox",
    "Recipe": "recipe",
    "Sandbox": "sandbox",
    "SeccoderxError": "errors",
    "extract_code": "prompting",
    "load_labelled": "datasets",
    "load_recipe": "recipe",
    "load_tasks": "datasets",
    "parse_verdict": "prompting",
    "reward_parts": "rewards.composite",
    "scan": "stages.scan",
    "train": "pipeline",
}

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
