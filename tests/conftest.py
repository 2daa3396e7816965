"""Settings and fixtures for all tests."""

import pytest
from hypothesis import settings

from seccoderx_lite.recipe.recipe import ModelRecipe

settings.register_profile("seccoderx", deadline=None)  # a busy machine must not fail a test
settings.load_profile("seccoderx")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))


@pytest.fixture
def model_recipe() -> ModelRecipe:
    return ModelRecipe(base="builtin:tiny")
