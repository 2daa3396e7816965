"""TRL's trainers for one shared base, and how a run resumes from their checkpoints.

A checkpoint holds the trained adapter alone. On resume, records in `metrics.jsonl` past the
checkpoint are dropped first, so the file reads as if the run had never been interrupted.
"""

import functools
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from seccoderx_lite.core.errors import RunInterrupted
from seccoderx_lite.core.records import Json
from seccoderx_lite.models.adapters import adapter_parameters, adapter_to_train
from seccoderx_lite.models.base import Base
from seccoderx_lite.models.decoding import generating
from seccoderx_lite.models.distributed import (
    is_first_process,
    wait_for_all,
)
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.training.base_guard import BaseGuard
from seccoderx_lite.training.order import in_training_order
from seccoderx_lite.training.out_of_memory import train_within_memory
from seccoderx_lite.training.settings import prompts_in_all
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trackers import finish_stage

logger = logging.getLogger(__name__)

datasets.disable_progress_bars()  # stages report their own progress


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint, and delete incomplete ones.

    The trainer writes its state file last: without a readable one a checkpoint is incomplete.
    """
    complete: list[tuple[int, Path]] = []
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            step = int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])
        except (OSError, ValueError, KeyError):
            shutil.rmtree(checkpoint)
            continue
        complete.append((step, checkpoint))
    return max(complete)[1] if complete else None


def train(
    trainer: Any, checkpoints: Path, has_ended_early: Callable[[], bool] = lambda: False
) -> None:
    """Run a trainer from its newest complete checkpoint, or from the start.

    `has_ended_early` says whether a callback, and no signal, ended training before its last step.

    Raises:
        ModelError: memory ran out, and smaller micro-batches could not help.
        RunInterrupted: a signal ended training after a step, whose checkpoint is saved.
    """
    trainer.model.save_pretrained = functools.partial(
        trainer.model.save_pretrained, selected_adapters=["default"]
    )
    trainer.remove_callback(PrinterCallback)
    if is_first_process():
        latest_checkpoint(checkpoints)  # deletes incomplete ones before other processes look
    wait_for_all()
    checkpoint = latest_checkpoint(checkpoints)
    if checkpoint:
        logger.info("resuming from %s", checkpoint.name)
    train_within_memory(trainer, checkpoint)
    finish_stage(trainer.args.report_to)
    step, steps = trainer.state.global_step, trainer.args.max_steps
    if step < steps and not has_ended_early():
        stage = checkpoints.parent.name
        raise RunInterrupted(
            f"interrupted after {stage} step {step} of {steps}; a checkpoint is saved"
        )


def make_sft_trainer(
    base: Base,
    recipe: Recipe,
    config: SFTConfig,
    rows: list[dict[str, Json]],
    recorder: StepRecorder,
) -> Any:
    """Return TRL's supervised trainer for a new adapter; it takes the rows in the given order."""
    return _make_trainer(SFTTrainer, base, recipe, rows, args=config, callbacks=[recorder])


def make_grpo_trainer(
    base: Base,
    recipe: Recipe,
    config: GRPOConfig,
    rows: list[dict[str, Json]] | Dataset,
    reward: Callable[..., list[float | None]],
    recorder: StepRecorder,
    callbacks: Sequence[TrainerCallback] = (),
) -> Any:
    """Return TRL's GRPO trainer for the adapter on the base, or for a new one on a bare base.

    `rows` are put in a random order; a data set has its own.
    """
    if isinstance(rows, list):
        rows = in_training_order(rows, prompts_in_all(config), recipe.seed)
    return _make_trainer(
        GRPOTrainer,
        base,
        recipe,
        rows,
        args=config,
        callbacks=[recorder, *callbacks],
        reward_funcs=reward,
    )


def _make_trainer(
    trainer_class: Any,
    base: Base,
    recipe: Recipe,
    rows: list[dict[str, Json]] | Dataset,
    **settings: Any,
) -> Any:
    """Put a trainer of TRL on the base; an adapter that was on it keeps its float32 values."""
    set_seed(recipe.seed)
    config_of_new = adapter_to_train(base, recipe.model.lora, recipe.seed)
    start = _copies(base)
    trainer = trainer_class(
        model=base.model,
        train_dataset=Dataset.from_list(rows) if isinstance(rows, list) else rows,
        processing_class=base.tokenizer,
        peft_config=config_of_new,
        **settings,
    )
    base.model = trainer.model
    _keep_float32(base, start)
    trainer.add_callback(BaseGuard())
    return trainer


def _with_options(given: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Add options for `generate`; `use_cache` goes into a given generation config, if any."""
    merged = {**options, **given}
    if config := merged.get("generation_config"):
        config.use_cache = merged.pop("use_cache", config.use_cache)
    return merged


def _copies(base: Base) -> dict[str, torch.Tensor]:
    """Return the values of the adapter to be trained further; none for a new one."""
    parameters = adapter_parameters(base.model, "trained")
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def _keep_float32(base: Base, start: dict[str, torch.Tensor]) -> None:
    """Make the trained adapter float32 again, with exactly the values that it started from.

    TRL casts the adapters of a 4-bit base to bfloat16, where small updates are rounded away.
    """
    for name, parameter in adapter_parameters(base.model, "trained").items():
        parameter.data = start.get(name, parameter.data).to(parameter.device).float()


def prepare_generation(base: Base, clock: PhaseClock) -> None:
    """Make the trainer's `generate` use the recipe's settings, and time it as phase `rollout`.

    Only the first call of a step is the rollout; later ones are the judge's, timed as `judge`.
    """
    generate = base.model.generate

    @functools.wraps(generate)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with generating(base) as options:
            result = generate(*args, **_with_options(kwargs, options))
        if not clock.has("rollout"):
            clock.lap("rollout")
        return result

    base.model.generate = timed
