"""Shared by tests that need a loaded model: the tiny base in 4 bits, the real path on a CPU."""

from pathlib import Path

import pytest

from seccoderx_lite.recipe import ModelRecipe


@pytest.fixture
def model_recipe() -> ModelRecipe:
    return ModelRecipe(base="builtin:tiny")


@pytest.fixture
def recipes() -> Path:
    return Path(__file__).parent.parent / "recipes"
