"""TRL's trainers for one shared base; `resuming` runs and resumes them."""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import torch
from datasets import Dataset
from transformers import TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from trl.trainer import utils as trl_utils

from seccoderx_lite.core.records import Json
from seccoderx_lite.models.adapters import adapter_parameters, adapter_to_train
from seccoderx_lite.models.base import Base
from seccoderx_lite.models.decoding import generating
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.training.base_guard import BaseGuard
from seccoderx_lite.training.order import in_training_order
from seccoderx_lite.training.out_of_memory import FreeMemoryGiver
from seccoderx_lite.training.settings import prompts_in_all
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder

logger = logging.getLogger(__name__)

datasets.disable_progress_bars()  # stages report their own progress

_uses_triton: Any = getattr(trl_utils, "_use_triton", None)
if _uses_triton is not None:
    # TRL 1.16 computes the logits of prompts and padding too where there is no Triton, because some
    # compilers need equal shapes. On a CPU that is up to half of a step's time.
    trl_utils._use_triton = lambda device: device.type == "cpu" or _uses_triton(device)


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
    if base.model.device.type == "cpu":
        trainer.add_callback(FreeMemoryGiver())
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
