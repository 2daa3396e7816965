"""Settings and fixtures for all tests."""

import os
from importlib.util import find_spec

# Tests run side by side: one thread each, which sleeps while it waits. torch reads this when it is
# imported, and processes that a test starts inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

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


LONGEST = ("test_pipeline.py", "test_notebooks.py", "test_distributed.py")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads its options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole default suite on two workers, a file on one of them; a part of it on none.

    Tests that measure a GPU do not share it.
    """
    option = config.option
    is_whole = config.args_source is config.ArgsSource.TESTPATHS and not (
        option.markexpr or option.keyword or option.usepdb
    )
    is_alone = hasattr(config, "workerinput") or torch.cuda.is_available()
    if is_whole and not is_alone and getattr(option, "numprocesses", 0) is None:
        option.numprocesses, option.dist, option.loadscopereorder = 2, "loadfile", False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)  # no worker ends long after another
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
