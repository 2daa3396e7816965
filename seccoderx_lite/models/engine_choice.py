"""`rollout_engine: auto`: a few rollouts with the model itself and with vLLM; the faster one."""

import logging
import tempfile
import time
from pathlib import Path
from typing import Literal

import torch

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import attach_adapter, detach_adapters, save_random_adapter
from seccoderx_lite.models.base import Base
from seccoderx_lite.models.decoding import exact_length, generating
from seccoderx_lite.models.engine import Engine, close_engine, require_engine, start_engine
from seccoderx_lite.models.estimate import estimate, shapes_of
from seccoderx_lite.recipe.recipe import Recipe

logger = logging.getLogger(__name__)

RolloutEngine = Literal["generate", "vllm"]
_PROMPT, _TOKENS = 64, 32


def with_engine(recipe: Recipe, name: RolloutEngine) -> Recipe:
    """Return the recipe with this rollout engine."""
    assert recipe.policy is not None
    grpo = recipe.policy.grpo.model_copy(update={"rollout_engine": name})
    policy = recipe.policy.model_copy(update={"grpo": grpo})
    return recipe.model_copy(update={"policy": policy})


def faster_engine(recipe: Recipe, base: Base) -> RolloutEngine:
    """Return what samples a step's rollouts faster here: vLLM, if it can run and fits, or not.

    The base must have no adapter. vLLM goes on running if it is chosen.
    """
    recipe = with_engine(recipe, "vllm")
    try:
        require_engine(base)
        _require_memory(recipe, base)
        seconds = measure_engines(recipe, base, start_engine(recipe, base))
    except ModelError as error:
        logger.info("rollout_engine: generate (auto: %s)", error)
        return "generate"
    found: RolloutEngine = "vllm" if seconds["vllm"] < seconds["generate"] else "generate"
    logger.info(
        "rollout_engine: %s (auto: %d tokens of each rollout of a step took %.2f s with generate, "
        "%.2f s with vLLM)",
        found,
        _TOKENS,
        seconds["generate"],
        seconds["vllm"],
    )
    if found == "generate":
        close_engine(base)
    return found


def _require_memory(recipe: Recipe, base: Base) -> None:
    if base.device.type == "cpu":
        return
    total = torch.cuda.get_device_properties(base.device).total_memory
    peak = estimate(recipe, shapes_of(recipe)).peak_bytes
    if peak > total:
        raise ModelError(
            f"with vLLM the run needs {peak / 2**30:.1f} GiB of GPU memory, of which there are "
            f"{total / 2**30:.1f}"
        )


def measure_engines(
    recipe: Recipe, base: Base, engine: Engine, tokens: int = _TOKENS
) -> dict[RolloutEngine, float]:
    """Return the seconds to sample `tokens` tokens of every rollout of a step, per engine.

    Each samples twice, and the second time counts. vLLM's time includes the copy of the adapter.
    """
    assert recipe.policy is not None
    grpo = recipe.policy.grpo
    vocabulary = len(base.tokenizer)
    seconds: dict[RolloutEngine, float] = {}
    with tempfile.TemporaryDirectory() as place, torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        distinct = torch.randint(vocabulary, (grpo.prompts_per_step, _PROMPT))
        prompts = distinct.repeat_interleave(grpo.group_size, dim=0)
        save_random_adapter(base, recipe.model.lora, Path(place) / "adapter")
        attach_adapter(base, Path(place) / "adapter", "trained")
        try:
            for _ in range(2):
                seconds["generate"] = _with_model(base, prompts, tokens)
                seconds["vllm"] = _with_vllm(base, engine, prompts, tokens)
        finally:
            detach_adapters(base)
    return seconds


def _with_model(base: Base, prompts: torch.Tensor, tokens: int) -> float:
    began = time.perf_counter()
    with acting_as("trained", base.model, base.tokenizer) as model, generating(base) as options:
        lengths = exact_length(prompts.to(base.device), tokens)
        model.generate(**lengths, do_sample=True, top_k=0, **options)
    if base.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _with_vllm(base: Base, engine: Engine, prompts: torch.Tensor, tokens: int) -> float:
    began = time.perf_counter()
    engine.sync(base.model)
    settings = [
        {"temperature": 1.0, "max_tokens": tokens, "ignore_eos": True, "logprobs": 0, "seed": seed}
        for seed in range(len(prompts))
    ]
    engine.complete("trained", prompts.tolist(), settings)
    return time.perf_counter() - began
