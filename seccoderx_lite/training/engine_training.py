"""GRPO with rollouts from a vLLM engine: TRL's trainer gets the engine, and proofs guard it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from seccoderx_lite.core.errors import RunStopped
from seccoderx_lite.models.adapters import Role
from seccoderx_lite.models.engine import Engine
from seccoderx_lite.models.engine_roles import EngineRollouts, greedy_logprobs
from seccoderx_lite.models.precision import training_dtype
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.training.role_proofs import Sample
from seccoderx_lite.training.step_records import PhaseClock

_MOST_GAP = {torch.float32: 0.02}
_MOST_GAP_IN_16_BITS = 0.2
"""Largest mean difference between the engine's and the trainer's log-probabilities of a rollout."""


def sample_with(engine: Engine, trainer: Any, recipe: Recipe, clock: PhaseClock) -> None:
    """Let a GRPO trainer sample its rollouts with the engine.

    The trainer was built without vLLM, so TRL started no engine of its own and merges nothing. It
    corrects the difference between both models' probabilities, and records it.
    """
    trainer.vllm_generation = EngineRollouts(
        engine,
        trainer.model,
        temperature=trainer.args.temperature,
        max_new_tokens=trainer.args.max_completion_length,
        seed=recipe.seed,
        step=lambda: int(trainer.state.global_step),
        on_sampled=lambda: clock.lap("rollout"),
    )
    trainer.use_vllm = True
    trainer._last_loaded_step = -1
    trainer.add_callback(GapGuard(training_dtype(recipe.model.base)))


class GapGuard(TrainerCallback):
    """Stops a run whose rollouts come from other weights than those in training."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._most = _MOST_GAP.get(dtype, _MOST_GAP_IN_16_BITS)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        gap = (kwargs.get("logs") or {}).get("sampling/sampling_logp_difference/mean")
        if gap is not None and not gap <= self._most:
            raise RunStopped(
                f"policy: stopped at step {state.global_step}: the log-probabilities of vLLM and "
                f"of the model in training differ by {gap:.3g} per token, above {self._most}; the "
                "rollouts come from another adapter. Run again to resume from the last checkpoint; "
                "if it stops again, use policy.grpo.rollout_engine: generate in a new run"
            )


def sleep_after(reward: Any, engine: Engine) -> Callable[..., list[float | None]]:
    """Return a reward after which the engine sleeps, so that the update has the GPU's memory."""

    def composite(**columns: Any) -> list[float | None]:
        rewards: list[float | None] = reward(**columns)
        engine.sleep()
        return rewards

    return composite


def engine_sampler(engine: Engine, model: Any, prompt_ids: Sequence[int], role: Role) -> Sample:
    """Return a function that samples greedy tokens from the engine, for the proof of a role.

    It gives the engine the adapter of the role as it is at that moment.
    """

    def sample() -> tuple[list[int], torch.Tensor]:
        if role == "trained":
            engine.sync(model)
        return greedy_logprobs(engine, role, prompt_ids)

    return sample
