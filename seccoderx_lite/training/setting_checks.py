"""Whether the settings under `trainer:` can be used, found out before anything is trained.

The trainer's config, its optimiser and its schedule of the learning rate are built once, with one
weight that is never trained.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import Trainer, get_scheduler
from trl import GRPOConfig, SFTConfig

from seccoderx_lite.core.errors import RecipeError, SeccoderxError, reason_of
from seccoderx_lite.recipe.recipe import AlignRecipe, ColdStartRecipe, GrpoRecipe, WarmStartRecipe

_CHOICES: dict[type, dict[str, tuple[str | bool, ...]]] = {
    GRPOConfig: {
        "loss_type": ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"),
        "scale_rewards": ("group", "batch", "none", True, False),
        "importance_sampling_level": ("token", "sequence"),
        "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    },
    SFTConfig: {"loss_type": ("nll", "dft", "chunked_nll")},
}
"""Settings whose values TRL looks at late, for GRPO after the first rollouts."""

TrainedSection = ColdStartRecipe | AlignRecipe | WarmStartRecipe | GrpoRecipe


def check_trainer(
    key: str, section: TrainedSection, make_config: Callable[[], SFTConfig | GRPOConfig]
) -> None:
    """Check the settings of a stage; `key` is that of its section.

    Raises:
        RecipeError: a setting is unknown, or its value cannot be used.
    """
    grpo = isinstance(section, AlignRecipe | GrpoRecipe)
    _check_names(key, section.trainer, GRPOConfig if grpo else SFTConfig)
    try:
        _build_optimizer(make_config())
    except SeccoderxError:
        raise
    except Exception as error:  # TRL, transformers and torch raise many kinds of error
        given = ", ".join(f"{name}: {value!r:.40}" for name, value in section.trainer.items())
        raise RecipeError(
            f"{key}.trainer: cannot be used ({reason_of(error)}); change or remove what it names "
            f"(got {given or 'nothing'})"
        ) from error


def _check_names(key: str, given: dict[str, Any], kind: type[SFTConfig] | type[GRPOConfig]) -> None:
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for name, value in given.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = (
                f"did you mean {near[0]}?" if near else f"see the fields of TRL's {kind.__name__}"
            )
            raise RecipeError(f"{key}.trainer.{name}: unknown setting; {hint}")
        rule = _rule_broken(fields[name].default, value)
        if choices := _CHOICES[kind].get(name):
            rule = None if value in choices else f"one of {', '.join(map(str, choices))}"
        if rule:
            raise RecipeError(f"{key}.trainer.{name}: must be {rule} (got {value!r:.60})")


def _rule_broken(default: object, value: Any) -> str | None:
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if not isinstance(default, int | float) or value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and math.isfinite(value) else "a finite number"


def _build_optimizer(config: SFTConfig | GRPOConfig) -> None:
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(config)
    optimizer = kind([torch.nn.Parameter(torch.zeros(1))], **settings)
    steps = int(config.max_steps)
    extra: Any = config.lr_scheduler_kwargs
    schedule = get_scheduler(
        config.lr_scheduler_type,
        optimizer,
        num_warmup_steps=config.get_warmup_steps(steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=extra,
    )
    if not all(map(math.isfinite, schedule.get_last_lr())):
        raise ValueError(f"the learning rate is {schedule.get_last_lr()[0]}")
