"""A stage resumes from the newest whole checkpoint; a damaged one is named and passed over."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from seccoderx_lite.training.resuming import latest_checkpoint


def checkpoint(folder: Path, step: int) -> Path:
    place = folder / f"checkpoint-{step}"
    place.mkdir()
    (place / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    save_file({"lora_A": torch.zeros(2, 2)}, place / "adapter_model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"x": torch.zeros(100)}, place / name)
    (place / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return place


def test_the_newest_whole_checkpoint_is_resumed_from(tmp_path):
    for step in (2, 10, 4):
        checkpoint(tmp_path, step)
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert latest_checkpoint(tmp_path / "nothing") is None


FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)


@pytest.mark.parametrize("how", ["gone", "empty", "cut"])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, caplog, file, how):
    whole = checkpoint(tmp_path, 2)
    damaged = checkpoint(tmp_path, 4) / file
    data = damaged.read_bytes()
    damaged.unlink()
    if how != "gone":
        damaged.write_bytes(data[: len(data) // 2] if how == "cut" else b"")
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(tmp_path) == whole
    assert "checkpoint-4 is not whole" in caplog.text
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint-2"]


def test_a_checkpoint_with_weights_that_are_not_numbers_is_passed_over(tmp_path):
    damaged = checkpoint(tmp_path, 4)
    save_file({"x": torch.full((2,), float("nan"))}, damaged / "adapter_model.safetensors")
    assert latest_checkpoint(tmp_path) is None
