"""Settings for all tests, and what tests with a loaded model share."""

import pytest
from hypothesis import settings

from seccoderx_lite.recipe import ModelRecipe

settings.register_profile("seccoderx", deadline=None)  # a busy machine is no failure
settings.load_profile("seccoderx")


@pytest.fixture
def model_recipe() -> ModelRecipe:
    return ModelRecipe(base="builtin:tiny")
