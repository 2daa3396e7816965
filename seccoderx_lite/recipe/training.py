"""What the judge's and the policy's sections have in common: supervised training and GRPO."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from seccoderx_lite.recipe.section import (
    GRPO_NAMES,
    MOST,
    TRAINER_NAMES,
    Count,
    Interval,
    NotNegative,
    Positive,
    Section,
    Settings,
    Steps,
    changed_weights,
    set_twice,
)


class SupervisedRecipe(Section):
    """Supervised training."""

    steps: Steps = 200
    """Optimiser steps; raise it to extend a finished run."""
    batch_size: Count = 16
    """Examples per step."""
    learning_rate: Positive = 2e-4
    """Peak learning rate."""
    max_tokens: Count = 2048
    """Longest prompt plus completion; longer examples are skipped and counted."""
    save_every: Interval = 50
    """Most steps between two checkpoints; one is also saved every ten minutes."""
    trainer: Settings = Field(default_factory=dict)
    """Further settings of TRL's SFTConfig, passed on unchecked."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from set_twice(data, {**TRAINER_NAMES, "max_length": "max_tokens"})


class GroupRecipe(Section):
    """GRPO training."""

    group_size: Annotated[int, Field(ge=2, le=MOST)] = 8
    """Completions sampled per prompt; their rewards are compared with each other."""
    prompts_per_step: Count = 4
    """Prompts per optimiser step."""
    steps: Steps = 300
    """Optimiser steps; raise it to extend a finished run."""
    learning_rate: Positive = 1e-5
    """Peak learning rate."""
    kl: NotNegative = 0.01
    """Weight of the KL term against the model from which GRPO starts; 0 turns it off."""
    temperature: Positive = 0.8
    """Sampling temperature of the completions."""
    max_completion_tokens: Count = 1024
    """Longest completion."""
    save_every: Interval = 25
    """Most steps between two checkpoints; one is also saved every ten minutes."""
    trainer: Settings = Field(default_factory=dict)
    """Further settings of TRL's GRPOConfig, passed on unchecked."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from set_twice(data, GRPO_NAMES)
        yield from changed_weights(data)
