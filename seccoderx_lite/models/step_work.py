"""How many texts and tokens a step has at most, and the work they are.

Nothing here depends on a card; `gpus` turns work into the least time.
"""

from dataclasses import dataclass

from seccoderx_lite.models.shapes import ModelShape, Shapes
from seccoderx_lite.models.step_memory import GPU_DTYPE_BYTES, cache_bytes
from seccoderx_lite.recipe.recipe import (
    GrpoRecipe,
    JudgeRecipe,
    Recipe,
)
from seccoderx_lite.recipe.training import GroupRecipe, SupervisedRecipe

CHARS_PER_TOKEN = 3.2
"""Assumed for code, to convert `judge.max_code_chars` to tokens."""
JUDGE_PROMPT_TOKENS = 500
"""The judge's prompt without the code: instructions and descriptions of weaknesses."""


@dataclass(frozen=True, slots=True)
class Work:
    """The most that one optimiser step computes."""

    rollouts: int
    flops: float
    """Floating point operations of rollout, judge, reference and update."""
    decode_bytes: float
    """Bytes of weights and cache that decoding reads."""


def computed_prompts(recipe: Recipe, section: GroupRecipe) -> int:
    """Return how many prompts a step computes; `decoding` computes equal ones once."""
    once = recipe.model.fast_generation and recipe.model.backend != "unsloth"
    return section.prompts_per_step * (1 if once else section.group_size)


def prompt_tokens(recipe: Recipe, base: ModelShape) -> int:
    return min(recipe.model.max_prompt_tokens, base.max_tokens)


def judge_prompt_tokens(judge: JudgeRecipe) -> int:
    return int(judge.max_code_chars / CHARS_PER_TOKEN) + JUDGE_PROMPT_TOKENS


def judge_batch(judge: JudgeRecipe, grpo: GrpoRecipe) -> tuple[int, int]:
    """Return the judge's batch size and prompt tokens, limited by what the policy can write."""
    rows = min(judge.batch_size, grpo.group_size * grpo.prompts_per_step)
    longest = grpo.max_completion_tokens + JUDGE_PROMPT_TOKENS
    return rows, min(judge_prompt_tokens(judge), longest)


def policy_work(recipe: Recipe, shapes: Shapes) -> Work | None:
    """Return the most that one policy step computes, its judge included."""
    if recipe.policy is None:
        return None
    grpo, base, judge = recipe.policy.grpo, shapes.base, recipe.judge
    work = _grpo_work(recipe, grpo, base, prompt_tokens(recipe, base))
    if judge is None or judge.endpoint or not recipe.policy.reward.judge:
        return work
    rows, prompt = judge_batch(judge, grpo)
    answers = generation_work(
        recipe, shapes.judge or base, work.rollouts, rows, prompt, judge.max_new_tokens
    )
    return Work(work.rollouts, work.flops + answers.flops, work.decode_bytes + answers.decode_bytes)


def held_out_work(recipe: Recipe, shapes: Shapes) -> Work | None:
    """Return the most that all measurements on held-out tasks during training generate."""
    policy = recipe.policy
    if policy is None or policy.measures is None:
        return None
    grpo, measures = policy.grpo, policy.measures
    measured = 1 + -(-grpo.steps // measures.every)
    count = measured * measures.count * measures.samples
    rows, prompt = grpo.group_size * grpo.prompts_per_step, prompt_tokens(recipe, shapes.base)
    longest = grpo.max_completion_tokens
    return generation_work(recipe, shapes.base, count, rows, prompt, longest)


def align_work(recipe: Recipe, shapes: Shapes) -> Work | None:
    """Return the most that one step of the judge's GRPO computes."""
    if recipe.judge is None or recipe.judge.align is None:
        return None
    prompt = min(judge_prompt_tokens(recipe.judge), shapes.base.max_tokens)
    return _grpo_work(recipe, recipe.judge.align, shapes.base, prompt)


def sft_work(recipe: Recipe, shapes: Shapes, section: SupervisedRecipe | None) -> Work | None:
    """Return the most that one step of supervised training computes."""
    if section is None:
        return None
    base = shapes.base
    tokens = section.batch_size * min(section.max_tokens, base.max_tokens)
    passes = 2 + bool(section.trainer.get("gradient_checkpointing", True))
    return Work(section.batch_size, 2.0 * base.linear_weights * tokens * passes, 0.0)


def generation_work(
    recipe: Recipe, shape: ModelShape, count: int, rows: int, prompt: int, longest: int
) -> Work:
    """Return the work of generating `count` texts in batches of `rows`."""
    flops = 2.0 * shape.linear_weights * count * (prompt + longest)
    return Work(count, flops, _decode_bytes(shape, recipe, count, rows, prompt, longest))


def evaluation_work(recipe: Recipe, shapes: Shapes, tasks: int) -> Work | None:
    """Return the most that measuring all models on this many tasks generates."""
    evaluation = recipe.evaluate
    if evaluation is None or evaluation.endpoint:
        return None
    models = 1 + bool(evaluation.measure_base and (recipe.policy or evaluation.adapter))
    models += bool(recipe.policy and recipe.policy.warm_start)
    count = models * tasks * (evaluation.samples + evaluation.greedy)
    prompt = prompt_tokens(recipe, shapes.base)
    return generation_work(
        recipe, shapes.base, count, evaluation.batch_size, prompt, evaluation.max_completion_tokens
    )


def _grpo_work(recipe: Recipe, section: GroupRecipe, shape: ModelShape, prompt: int) -> Work:
    """Return the most that rollout, reference and update of one step compute."""
    rollouts = section.group_size * section.prompts_per_step
    longest = section.max_completion_tokens
    tokens = rollouts * (prompt + longest)
    # A pass costs 2 operations per weight and token. Rollout 1 pass, reference 1 (with KL), update
    # forward 1, recomputation for checkpointing 1, backward 1 (frozen weights get no gradient).
    recomputed = bool(section.trainer.get("gradient_checkpointing", True))
    passes = 3 + (section.kl > 0) + recomputed
    saved = (rollouts - computed_prompts(recipe, section)) * prompt
    flops = 2.0 * shape.linear_weights * (tokens * passes - saved)
    flops += 2.0 * shape.vocabulary * shape.hidden * rollouts * longest * passes
    decoded = _decode_bytes(shape, recipe, rollouts, rollouts, prompt, longest)
    return Work(rollouts, flops, decoded)


def _decode_bytes(
    shape: ModelShape, recipe: Recipe, count: int, rows: int, prompt: int, longest: int
) -> float:
    """Return the bytes read to decode `count` texts in batches of `rows`.

    The weights are read once per token of a batch, the cache once per token of a text.
    """
    batches = -(-count // rows)
    weights = shape.base_bytes(recipe.model.quantization, GPU_DTYPE_BYTES)
    cache = cache_bytes(shape, 1) * count * longest * (prompt + longest / 2)
    return float(batches * longest * weights + cache)
