"""Estimate the memory and work of a recipe from the models' configs, without weights or a GPU.

Weights, adapters and optimiser are always in memory and counted exactly (`shapes`). Each phase adds
what it needs at most, with the longest prompts and completions, as TRL and transformers hold them
on a CUDA GPU with fused attention. The terms of a training step were compared on a CPU with all
live tensors of real steps (`tests/models/test_estimate.py`); nothing was measured on a GPU.

Phases run one after the other, so the peak is the constant part plus the largest phase.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.models.shapes import ModelShape, model_shape
from seccoderx_lite.models.step_memory import (
    GPU_DTYPE_BYTES,
    activation_bytes,
    cache_bytes,
    generation_bytes,
)
from seccoderx_lite.recipe.recipe import (
    AlignRecipe,
    ColdStartRecipe,
    GrpoRecipe,
    JudgeRecipe,
    Recipe,
    WarmStartRecipe,
)

CUDA_BYTES = 800 * 2**20
"""Assumed for the CUDA context, its libraries and fragmentation; depends on card and driver."""
CHARS_PER_TOKEN = 3.2
"""Assumed for code, to convert `judge.max_code_chars` to tokens."""
JUDGE_PROMPT_TOKENS = 500
"""The judge's prompt without the code: instructions and descriptions of weaknesses."""
_SFT_CHUNK = 256
"""Tokens whose logits TRL's SFT loss holds at the same time (`chunked_nll`)."""


@dataclass(frozen=True, slots=True)
class Part:
    """Memory for one purpose."""

    name: str
    bytes: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """The most that one optimiser step of the policy computes."""

    rollouts: int
    flops: float
    """Floating point operations of rollout, judge, reference and update."""
    decode_bytes: float
    """Bytes of weights and cache that decoding reads."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory and work of a recipe."""

    constant: tuple[Part, ...]
    phases: tuple[Part, ...]
    work: Work | None

    @property
    def peak_bytes(self) -> int:
        """The constant parts plus the largest phase."""
        constant = sum(part.bytes for part in self.constant)
        return constant + max((part.bytes for part in self.phases), default=0)

    @property
    def worst(self) -> Part | None:
        """The phase with the most memory."""
        return max(self.phases, key=lambda part: part.bytes, default=None)


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shape of the base, and of the judge's own base if it has one."""

    base: ModelShape
    judge: ModelShape | None


def shapes_of(recipe: Recipe) -> Shapes:
    """Return the shapes of the models a recipe loads.

    Raises:
        ModelError: a config cannot be loaded, or is not that of a dense decoder.
    """
    other = recipe.judge.base if recipe.judge else None
    return Shapes(model_shape(recipe.model.base), model_shape(other) if other else None)


def estimate(recipe: Recipe, shapes: Shapes) -> Estimate:
    """Return memory and work of a recipe on one CUDA GPU."""
    return Estimate(
        tuple(_constant(recipe, shapes)), tuple(_phases(recipe, shapes)), _work(recipe, shapes)
    )


def _constant(recipe: Recipe, shapes: Shapes) -> Iterator[Part]:
    base, quantization = shapes.base, recipe.model.quantization
    kind = "NF4, embeddings and norms in 16 bits" if quantization == "nf4" else "16 bits"
    yield Part(
        "base weights",
        base.base_bytes(quantization, GPU_DTYPE_BYTES),
        f"{base.parameters / 1e6:,.0f} million parameters, {kind}",
    )
    if shapes.judge:
        yield Part(
            "judge's own base",
            shapes.judge.base_bytes(quantization, GPU_DTYPE_BYTES),
            f"{shapes.judge.parameters / 1e6:,.0f} million parameters, {kind}",
        )
    trained = base.lora_parameters(recipe.model.lora)
    if _is_trained(recipe):
        yield Part("trained adapter", 4 * trained, f"{trained / 1e6:.1f} million, float32")
        yield Part("gradients and AdamW", 12 * trained, "three more float32 numbers per weight")
    if recipe.policy and _judge_adapter_is_loaded(recipe):
        shape = shapes.judge or base
        weights = shape.lora_parameters(recipe.model.lora)
        yield Part("judge adapter", 4 * weights, f"{weights / 1e6:.1f} million, float32")
    yield Part("CUDA and fragmentation", CUDA_BYTES, "assumed")


def _is_trained(recipe: Recipe) -> bool:
    judge = recipe.judge
    return bool(recipe.policy or (judge and (judge.cold_start or judge.align)))


def _judge_adapter_is_loaded(recipe: Recipe) -> bool:
    judge = recipe.judge
    return judge is not None and bool(judge.adapter or judge.cold_start or judge.align)


def _sft_phase(
    name: str, base: ModelShape, recipe: Recipe, section: ColdStartRecipe | WarmStartRecipe
) -> Part:
    micro = micro_batch(section.batch_size, section.trainer)
    tokens = min(section.max_tokens, base.max_tokens)
    logits = 4 * 4 * _SFT_CHUNK * base.vocabulary
    return Part(
        name,
        _training_bytes(base, micro * tokens, recipe, section.trainer, logits),
        f"{micro} x {tokens} tokens",
    )


def _phases(recipe: Recipe, shapes: Shapes) -> Iterator[Part]:
    base, judge, policy = shapes.base, recipe.judge, recipe.policy
    if judge and (section := judge.cold_start):
        yield _sft_phase("cold start", base, recipe, section)
    if judge and judge.align:
        prompt = min(_judge_prompt_tokens(judge), base.max_tokens)
        yield from _grpo_phases("align", base, recipe, judge.align, prompt)
    if policy and policy.warm_start:
        yield _sft_phase("warm start", base, recipe, policy.warm_start)
    if policy:
        yield from _grpo_phases("policy", base, recipe, policy.grpo, _prompt_tokens(recipe, base))
    if policy and judge and not judge.endpoint:
        rows, prompt = _judge_batch(judge, policy.grpo)
        yield Part(
            "judge",
            generation_bytes(shapes.judge or base, rows, prompt, judge.max_new_tokens),
            f"{rows} x ({prompt} + {judge.max_new_tokens}) tokens",
        )
    if evaluation := recipe.evaluate:
        prompt, longest = _prompt_tokens(recipe, base), evaluation.max_completion_tokens
        yield Part(
            "evaluate",
            generation_bytes(base, evaluation.batch_size, prompt, longest),
            f"{evaluation.batch_size} x ({prompt} + {longest}) tokens",
        )


def _grpo_phases(
    stage: str, shape: ModelShape, recipe: Recipe, section: GrpoRecipe | AlignRecipe, prompt: int
) -> Iterator[Part]:
    rollouts = section.group_size * section.prompts_per_step
    micro = micro_batch(rollouts, section.trainer)
    longest = section.max_completion_tokens
    size = f"({prompt} + {longest}) tokens"
    yield Part(
        f"{stage}: rollout",
        generation_bytes(shape, rollouts, prompt, longest, _computed_prompts(recipe, section)),
        f"{rollouts} x {size}",
    )
    logits = _LOGIT_BYTES * micro * longest * shape.vocabulary
    tokens = micro * (prompt + longest)
    update = _training_bytes(shape, tokens, recipe, section.trainer, logits)
    yield Part(f"{stage}: update", update, f"{micro} x {size}")


def _computed_prompts(recipe: Recipe, section: GrpoRecipe | AlignRecipe) -> int:
    """Return how many prompts a step computes; `decoding` computes equal ones once."""
    once = recipe.model.fast_generation and recipe.model.backend != "unsloth"
    return section.prompts_per_step * (1 if once else section.group_size)


def micro_batch(sequences: int, trainer: Mapping[str, Any]) -> int:
    """Return how many of a step's sequences go through the model at once in training."""
    return min(int(trainer.get("per_device_train_batch_size", sequences)), sequences)


def _prompt_tokens(recipe: Recipe, base: ModelShape) -> int:
    return min(recipe.model.max_prompt_tokens, base.max_tokens)


def _judge_prompt_tokens(judge: JudgeRecipe) -> int:
    return int(judge.max_code_chars / CHARS_PER_TOKEN) + JUDGE_PROMPT_TOKENS


def _judge_batch(judge: JudgeRecipe, grpo: GrpoRecipe) -> tuple[int, int]:
    """Return the judge's batch size and prompt tokens, limited by what the policy can write."""
    rows = min(judge.batch_size, grpo.group_size * grpo.prompts_per_step)
    longest = grpo.max_completion_tokens + JUDGE_PROMPT_TOKENS
    return rows, min(_judge_prompt_tokens(judge), longest)


_LOGIT_BYTES = 14
"""Most bytes per logit of the GRPO loss in 16 bits, read from TRL's code: logits and scaled logits
(2 + 2), float32 log-softmax (4), gradients of the scaled logits, their slice and the logits
(2 + 2 + 2). In float32, as in the test, it is 16 (four copies)."""


def _training_bytes(
    shape: ModelShape, tokens: int, recipe: Recipe, trainer: Mapping[str, Any], loss_bytes: int
) -> int:
    checkpointed = bool(trainer.get("gradient_checkpointing", True))
    activations = activation_bytes(
        shape, tokens, recipe.model.lora.rank, GPU_DTYPE_BYTES, checkpointed, loss_bytes
    )
    return activations + _unpacked_bytes(shape, recipe)


def _unpacked_bytes(shape: ModelShape, recipe: Recipe) -> int:
    """The largest 4-bit matrix, dequantised for its multiplication."""
    if recipe.model.quantization == "none":
        return 0
    return GPU_DTYPE_BYTES * max(linear.weights for linear in shape.linears)


def _work(recipe: Recipe, shapes: Shapes) -> Work | None:
    if recipe.policy is None:
        return None
    grpo, base = recipe.policy.grpo, shapes.base
    rollouts = grpo.group_size * grpo.prompts_per_step
    prompt, longest = _prompt_tokens(recipe, base), grpo.max_completion_tokens
    tokens = rollouts * (prompt + longest)
    # A pass costs 2 operations per weight and token. Rollout 1 pass, reference 1 (with KL), update
    # forward 1, recomputation for checkpointing 1, backward 1 (frozen weights get no gradient).
    recomputed = bool(grpo.trainer.get("gradient_checkpointing", True))
    passes = 3 + (grpo.kl > 0) + recomputed
    saved = (rollouts - _computed_prompts(recipe, grpo)) * prompt
    flops = 2.0 * base.linear_weights * (tokens * passes - saved)
    flops += 2.0 * base.vocabulary * base.hidden * rollouts * longest * passes
    decoded = _decode_bytes(base, recipe, rollouts, rollouts, prompt, longest)
    judge = recipe.judge
    if judge and not judge.endpoint and recipe.policy.reward.judge:
        shape = shapes.judge or base
        rows, judge_prompt = _judge_batch(judge, grpo)
        answer = judge.max_new_tokens
        flops += 2.0 * shape.linear_weights * rollouts * (judge_prompt + answer)
        decoded += _decode_bytes(shape, recipe, rollouts, rows, judge_prompt, answer)
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
