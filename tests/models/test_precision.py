"""In which precision a training step computes."""

import pytest
import torch
from helpers.small_runs import small_recipe

from seccoderx_lite.models import precision
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.decoding import generating
from seccoderx_lite.models.precision import has_bfloat16, training_dtype
from seccoderx_lite.models.shapes import model_shape, parameter_count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("flags\t: fpu avx2 avx512f avx512_bf16_of_another_name\n", False),
        ("Features\t: fp asimd bf16\n", True),
        ("model name: bf16\n", False),
        (None, False),
    ],
)
def test_the_processor_says_whether_it_has_bfloat16(text, expected, tmp_path):
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    assert has_bfloat16(file) is expected


@pytest.mark.parametrize(
    ("has", "large", "dtype"),
    [
        (True, 1, torch.bfloat16),
        (False, 1, torch.float32),
        (True, 10**9, torch.float32),
    ],
)
def test_only_large_models_train_in_bfloat16_on_a_cpu(has, large, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "has_bfloat16", lambda file: has)
    monkeypatch.setattr(precision, "_LARGE", large)
    assert training_dtype("builtin:tiny") is dtype


def test_parameters_are_counted_as_in_the_shape():
    assert parameter_count("builtin:tiny") == model_shape("builtin:tiny").parameters


def test_rollouts_keep_float32_where_training_autocasts():
    """As accelerate wraps a model that trains in bfloat16."""
    base = load_base(small_recipe().model)
    base.model._original_forward = base.model.forward
    wrapped = torch.autocast("cpu", dtype=torch.bfloat16)(base.model.forward)
    base.model.forward = wrapped
    ids = base.tokenizer("def f():", return_tensors="pt")["input_ids"]
    assert base.model(ids).logits.dtype is torch.bfloat16
    with generating(base):
        assert base.model(ids).logits.dtype is torch.float32
    assert base.model.forward is wrapped
