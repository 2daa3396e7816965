"""TRL's settings for supervised training and GRPO, from the sections of a recipe."""

from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig, SFTConfig

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.distributed import (
    process_count,
)
from seccoderx_lite.models.estimate import micro_batch
from seccoderx_lite.models.precision import training_dtype
from seccoderx_lite.recipe.recipe import (
    Recipe,
)
from seccoderx_lite.recipe.training import GroupRecipe, SupervisedRecipe
from seccoderx_lite.training.trackers import tracker_arguments


def _common_arguments(
    recipe: Recipe, section: SupervisedRecipe | GroupRecipe, checkpoints: Path
) -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    dtype = training_dtype(recipe.model.base)
    return {
        "output_dir": str(checkpoints),
        "max_steps": section.steps,
        "learning_rate": section.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would hide a loss that is not a number
        "save_steps": section.save_every,
        "save_total_limit": 2,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "bf16": dtype is torch.bfloat16,
        "fp16": dtype is torch.float16,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": on_gpu,
        **tracker_arguments(recipe.report_to, recipe.name, checkpoints.parent.name),
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
    }


def _micro_batch(whole: int, section: SupervisedRecipe | GroupRecipe, name: str) -> tuple[int, int]:
    """Return sequences per forward pass and passes per optimiser step, for each process.

    `trainer.per_device_train_batch_size` is an upper bound of the former. Each of several processes
    takes an equal share of the step.
    """
    share, rest = divmod(whole, process_count())
    if rest:
        raise ModelError(
            f"{name} = {whole} must be divisible by the number of processes ({process_count()})"
        )
    micro = micro_batch(share, section.trainer)
    if micro < 1 or share % micro:
        whole_name = name if process_count() == 1 else f"{name} / {process_count()} processes"
        raise ModelError(
            f"trainer.per_device_train_batch_size: must divide {whole_name} = {share} (got {micro})"
        )
    return micro, share // micro


def sft_config(recipe: Recipe, section: SupervisedRecipe, checkpoints: Path) -> SFTConfig:
    """Return the settings of supervised training, with the loss on the answer only.

    The learning rate follows a cosine after a warm-up of 10%, as in SecCoderX's cold start. With a
    smaller `trainer.per_device_train_batch_size`, gradients are accumulated over more micro-batches
    and the step stays the same.

    Raises:
        ModelError: `batch_size` cannot be divided into micro-batches of that size.
    """
    micro, accumulated = _micro_batch(section.batch_size, section, "batch_size")
    return SFTConfig(
        **{
            **_common_arguments(recipe, section, checkpoints),
            "train_sampling_strategy": "sequential",
            "lr_scheduler_type": "cosine",
            "warmup_steps": section.steps // 10,
            "gradient_accumulation_steps": accumulated,
            "max_length": section.max_tokens,
            "completion_only_loss": True,
            "packing": False,
            **section.trainer,
            "per_device_train_batch_size": micro,
        }
    )


def grpo_config(recipe: Recipe, section: GroupRecipe, checkpoints: Path) -> GRPOConfig:
    """Return the settings of GRPO; `stages.policy_training` describes the variant exactly.

    With a smaller `trainer.per_device_train_batch_size`, gradients are accumulated over more
    micro-batches, so that a step always has `prompts_per_step` whole groups.

    Raises:
        ModelError: the rollouts of a step cannot be divided into micro-batches of that size.
    """
    rollouts = section.group_size * section.prompts_per_step
    if section.prompts_per_step % process_count():
        raise ModelError(
            f"prompts_per_step: must be a multiple of the number of processes, {process_count()}, "
            f"because each scores whole groups (got {section.prompts_per_step})"
        )
    micro, accumulated = _micro_batch(rollouts, section, "group_size x prompts_per_step")
    return GRPOConfig(
        **{
            **_common_arguments(recipe, section, checkpoints),
            "gradient_accumulation_steps": accumulated,
            "num_generations": section.group_size,
            "max_completion_length": section.max_completion_tokens,
            "temperature": section.temperature,
            "beta": section.kl,
            "epsilon": 0.2,
            "epsilon_high": 0.3,
            "shuffle_dataset": False,
            "loss_type": "dapo",
            "scale_rewards": "group",
            **section.trainer,
            "per_device_train_batch_size": micro,
        }
    )


def sequences_per_step(config: SFTConfig | GRPOConfig) -> int:
    """Return the sequences of one optimiser step, over all processes."""
    return int(config.train_batch_size) * config.gradient_accumulation_steps * process_count()


def prompts_in_all(config: GRPOConfig) -> int:
    """Return the prompts of a whole training; each of them gets a group of completions."""
    return int(config.max_steps) * sequences_per_step(config) // (config.num_generations or 1)
