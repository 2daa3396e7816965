"""The options of `estimate`."""

import pytest

from seccoderx_lite.cli.estimate import parse_memory
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.models.gpus import GIB, GPUS, gpu_named


@pytest.mark.parametrize(
    ("text", "size"), [("16GB", 16), ("16 GiB", 16), ("15.5", 15.5), ("24g", 24)]
)
def test_memory_is_read_as_cards_are_sold(text, size):
    assert parse_memory(text) == size * GIB


@pytest.mark.parametrize("text", ["", "much", "16TB", "0GB", "-1GB"])
def test_memory_that_is_no_size_is_refused(text):
    with pytest.raises(RecipeError, match="--memory: must be a size such as 16GB"):
        parse_memory(text)


def test_an_unknown_gpu_is_refused_with_those_known():
    assert gpu_named("t4") is GPUS["T4"]
    with pytest.raises(RecipeError, match="use one of T4, L4, "):
        gpu_named("Voodoo")
