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


@pytest.mark.parametrize(
    ("name", "card"),
    [("4090", "RTX 4090"), ("rtx4090", "RTX 4090"), ("3090", "RTX 3090"), ("l4", "L4"),
     ("A10", "A10"), ("h100", "H100 80GB"), ("NVIDIA H100 80GB", "H100 80GB"),
     ("a100-40gb", "A100 40GB"), ("A100 80GB", "A100 80GB"), ("rtx-3090", "RTX 3090")],
)  # fmt: skip
def test_a_card_is_known_by_its_usual_names(name, card):
    assert gpu_named(name) is GPUS[card]


@pytest.mark.parametrize(
    ("name", "named"), [("a100", "A100 40GB or A100 80GB"), ("", "unknown GPU"), ("1", "unknown")]
)
def test_a_name_that_means_no_card_or_several_is_refused(name, named):
    with pytest.raises(RecipeError, match=named):
        gpu_named(name)
