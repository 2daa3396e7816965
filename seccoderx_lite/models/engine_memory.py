"""How large a vLLM engine has to be for a recipe, from the model's shape."""

from seccoderx_lite.models.shapes import ModelShape
from seccoderx_lite.models.step_memory import GPU_DTYPE_BYTES, cache_bytes
from seccoderx_lite.models.step_work import judge_prompt_tokens, prompt_tokens
from seccoderx_lite.recipe.recipe import Recipe

GRAPH_BYTES = 512 * 2**20
"""Assumed for CUDA graphs, which stay while the engine sleeps."""
_PREFILL_TOKENS = 8192
"""Prompt tokens that vLLM computes at once by default."""
_LEAST_SEQUENCES = 64


def uses_engine(recipe: Recipe) -> bool:
    """Return whether vLLM samples the rollouts, and so also judges and evaluates on this base."""
    return recipe.policy is not None and recipe.policy.grpo.rollout_engine == "vllm"


def engine_tokens(recipe: Recipe, shape: ModelShape) -> int:
    """Return the longest prompt plus completion of any role."""
    assert recipe.policy is not None
    prompt, judge = prompt_tokens(recipe, shape), recipe.judge
    lengths = [prompt + recipe.policy.grpo.max_completion_tokens]
    if recipe.evaluate:
        lengths.append(prompt + recipe.evaluate.max_completion_tokens)
    if judge and not judge.endpoint and not judge.base:
        lengths.append(judge_prompt_tokens(judge) + judge.max_new_tokens)
    return min(max(lengths), shape.max_tokens)


def engine_sequences(recipe: Recipe) -> int:
    """Return how many completions are computed at once."""
    assert recipe.policy is not None
    grpo = recipe.policy.grpo
    return max(_LEAST_SEQUENCES, grpo.group_size * grpo.prompts_per_step)


def engine_bytes(recipe: Recipe, shape: ModelShape, dtype_bytes: int = GPU_DTYPE_BYTES) -> int:
    """Return the memory of an engine: base, two adapters, cache, prefill, sampling and graphs.

    The cache holds all rollouts of a step, or one text of the greatest length.
    """
    assert recipe.policy is not None
    grpo = recipe.policy.grpo
    longest = engine_tokens(recipe, shape)
    rollout = prompt_tokens(recipe, shape) + grpo.max_completion_tokens
    rollouts = grpo.group_size * grpo.prompts_per_step
    s = dtype_bytes
    prefill = _PREFILL_TOKENS * (3 * s * shape.intermediate + (4 + 3 * s) * shape.hidden)
    sampling = 20 * engine_sequences(recipe) * shape.vocabulary
    return (
        shape.base_bytes(recipe.model.quantization, s)
        + 2 * s * shape.lora_parameters(recipe.model.lora)
        + cache_bytes(shape, max(rollouts * rollout, longest), s)
        + prefill
        + sampling
        + GRAPH_BYTES
    )
