"""Settings and fixtures for all tests."""

from importlib.util import find_spec

import pytest
import torch

from seccoderx_lite.recipe.recipe import ModelRecipe

if find_spec("hypothesis"):  # the tests of tests/gpu run without it
    from hypothesis import settings

    settings.register_profile("seccoderx", deadline=None)  # a busy machine must not fail a test
    settings.load_profile("seccoderx")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="Where tests marked gpu run; cpu runs those whose logic needs no GPU.",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _skip_without_gpu(config, items)
    if config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))


def _skip_without_gpu(config: pytest.Config, items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or torch.cuda.is_available():
        return
    for item in marked:
        if config.option.device == "cuda" or item.get_closest_marker("gpu").kwargs.get("only"):
            item.add_marker(pytest.mark.skip(reason="gpu: this machine has no CUDA GPU"))


@pytest.fixture
def model_recipe() -> ModelRecipe:
    return ModelRecipe(base="builtin:tiny")
