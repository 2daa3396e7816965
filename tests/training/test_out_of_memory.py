"""Memory that runs out while training: what is halved, what stays the same, what is refused."""

import gc
import logging
from types import SimpleNamespace

import psutil
import pytest
import torch
from helpers.small_runs import CountingReward, small_recipe

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.base import load_base
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.out_of_memory import FreeMemoryGiver, is_out_of_memory
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.settings import grpo_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer

REWARDS = [1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 5.0, 0.5]
CUDA_ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has")
CPU_ERROR = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")


class Hungry(CountingReward):
    """Fails with an error at the calls it is told to; the first call has number 1."""

    def __init__(self, error, *calls):
        super().__init__(REWARDS)
        self.error, self.fails_at, self.calls, self.steps = error, calls, 0, []

    def __call__(self, completion_ids, trainer_state, **columns):
        self.calls += 1
        self.steps.append(trainer_state.global_step)
        if self.calls in self.fails_at:
            raise self.error
        return super().__call__(completion_ids, **columns)


def run(folder, recipe, reward):
    base = load_base(recipe.model)
    recorder = StepRecorder("policy", folder, lambda *values: None, PhaseClock())
    config = grpo_config(recipe, recipe.policy.grpo, folder.checkpoints("policy"))
    rows = [{"prompt": [{"role": "user", "content": f"Write function {n}."}]} for n in (1, 2)]
    trainer = make_grpo_trainer(base, recipe, config, rows, reward, recorder)
    train(trainer, folder.checkpoints("policy"))
    return trainer


@pytest.mark.parametrize("error", [CUDA_ERROR, CPU_ERROR], ids=["GPU", "main memory"])
def test_half_the_micro_batch_goes_on_from_the_last_step(tmp_path, error, caplog):
    recipe = small_recipe(steps=3, save_every=100)
    reward = Hungry(error, 3)
    with RunFolder.open(tmp_path / "run", recipe) as folder, caplog.at_level(logging.WARNING):
        trainer = run(folder, recipe, reward)
        steps = [record["step"] for record in folder.read_jsonl("metrics.jsonl")]
    assert steps == [1, 2, 3]
    assert reward.steps == [0, 1, 2, 2]
    args = trainer.args
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (4, 2)
    assert "micro-batches of 4 instead of 8, 2 instead of 1 per step" in caplog.text


def test_memory_that_runs_out_in_the_first_step_is_caught_too(tmp_path):
    recipe = small_recipe(steps=1)
    reward = Hungry(CUDA_ERROR, 1)
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        trainer = run(folder, recipe, reward)
    assert trainer.state.global_step == 1
    assert reward.calls == 2


def test_a_second_time_is_an_error_that_says_what_to_lower(tmp_path):
    recipe = small_recipe(steps=1)
    with (
        RunFolder.open(tmp_path / "run", recipe) as folder,
        pytest.raises(ModelError, match=r"again, with micro-batches of 4, .* lower group_size"),
    ):
        run(folder, recipe, Hungry(CUDA_ERROR, 1, 2))


def test_a_micro_batch_of_one_cannot_be_halved(tmp_path):
    recipe = small_recipe(steps=1, trainer={"per_device_train_batch_size": 1})
    with (
        RunFolder.open(tmp_path / "run", recipe) as folder,
        pytest.raises(ModelError, match="the micro-batch is already 1"),
    ):
        run(folder, recipe, Hungry(CUDA_ERROR, 1))


def test_other_errors_pass_through(tmp_path):
    recipe = small_recipe(steps=1)
    with (
        RunFolder.open(tmp_path / "run", recipe) as folder,
        pytest.raises(RuntimeError, match="shapes do not fit"),
    ):
        run(folder, recipe, Hungry(RuntimeError("shapes do not fit"), 1))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CUDA_ERROR, True),
        (CPU_ERROR, True),
        (RuntimeError("HIP out of memory"), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_errors_are_told_from_others(error, expected):
    assert is_out_of_memory(error) is expected


def test_free_memory_between_used_pieces_goes_back_to_the_system():
    giver = FreeMemoryGiver()
    if giver._trim is None:
        pytest.skip("this C library cannot give memory back")
    process = psutil.Process()
    pieces = [torch.ones(16 * 1024) for _ in range(4096)]  # 64 KiB each, below glibc's own limit
    kept = pieces[::64]
    del pieces
    gc.collect()
    held = process.memory_info().rss
    for step in (4, 5):
        giver.on_step_end(None, SimpleNamespace(global_step=step), None)
        given = held - process.memory_info().rss
        assert (given > 100 << 20) == (step == 5)
    assert len(kept) == 64
