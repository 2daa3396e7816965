"""Memory and work of a recipe before it is run, from configs alone: no weights, no GPU.

What stays in memory (weights, adapters, optimiser) is counted exactly (`shapes`). On top of it
comes what a phase needs at its worst: the longest prompts and completions, as TRL and transformers
hold them on a CUDA GPU with fused attention. The terms of a training step were checked on a CPU
against every tensor alive in real steps (`tests/test_estimate.py`); nothing was measured on a GPU.

The phases come one after the other, so the peak is what stays plus the largest of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.models.shapes import ModelShape, model_shape
from seccoderx_lite.recipe.recipe import AlignRecipe, GrpoRecipe, JudgeRecipe, Recipe

GPU_DTYPE_BYTES = 2
"""bfloat16, or float16 on older GPUs."""
CUDA_BYTES = 800 * 2**20
"""Assumed for the CUDA context, its libraries and fragmentation; differs by card and driver."""
CHARS_PER_TOKEN = 3.2
"""Assumed for code, to turn `judge.max_code_chars` into tokens."""
JUDGE_PROMPT_TOKENS = 500
"""The judge's prompt around the code: instructions and descriptions of weaknesses."""
_SFT_CHUNK = 256
"""Tokens whose logits TRL's SFT loss holds at once (`chunked_nll`)."""


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the table."""

    name: str
    bytes: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What one optimiser step of the policy computes at most."""

    rollouts: int
    flops: float
    """Floating point operations: rollout, judge, reference, update."""
    decode_bytes: float
    """Bytes of weights and cache that decoding reads, token after token."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a recipe takes; `peak_bytes` is what stays plus the largest phase."""

    stays: tuple[Part, ...]
    phases: tuple[Part, ...]
    work: Work | None

    @property
    def peak_bytes(self) -> int:
        """The most memory needed at once."""
        staying = sum(part.bytes for part in self.stays)
        return staying + max((part.bytes for part in self.phases), default=0)

    @property
    def worst(self) -> Part | None:
        """The phase that decides the peak."""
        return max(self.phases, key=lambda part: part.bytes, default=None)


@dataclass(frozen=True, slots=True)
class Shapes:
    """The base's shape, and that of a judge on another base."""

    base: ModelShape
    judge: ModelShape | None


def shapes_of(recipe: Recipe) -> Shapes:
    """Return the shapes of the models a recipe loads.

    Raises:
        ModelError: a config cannot be had, or is of an unknown kind.
    """
    other = recipe.judge.base if recipe.judge else None
    return Shapes(model_shape(recipe.model.base), model_shape(other) if other else None)


def estimate(recipe: Recipe, shapes: Shapes) -> Estimate:
    """Return memory and work of a recipe on one CUDA GPU."""
    return Estimate(
        tuple(_stays(recipe, shapes)), tuple(_phases(recipe, shapes)), _work(recipe, shapes)
    )


def _stays(recipe: Recipe, shapes: Shapes) -> Iterator[Part]:
    base, held = shapes.base, recipe.model.quantization
    kind = "NF4, embeddings and norms in 16 bits" if held == "nf4" else "16 bits"
    yield Part(
        "base weights",
        base.base_bytes(held, GPU_DTYPE_BYTES),
        f"{base.parameters / 1e6:,.0f} million parameters, {kind}",
    )
    if shapes.judge:
        yield Part(
            "judge's own base",
            shapes.judge.base_bytes(held, GPU_DTYPE_BYTES),
            f"{shapes.judge.parameters / 1e6:,.0f} million parameters, {kind}",
        )
    trained = base.lora_parameters(recipe.model.lora)
    if _is_trained(recipe):
        yield Part("trained adapter", 4 * trained, f"{trained / 1e6:.1f} million, float32")
        yield Part("gradients and AdamW", 12 * trained, "three more float32 numbers a weight")
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


def _phases(recipe: Recipe, shapes: Shapes) -> Iterator[Part]:
    base, judge, policy = shapes.base, recipe.judge, recipe.policy
    if judge and (section := judge.cold_start):
        micro = micro_batch(section.batch_size, section.trainer)
        tokens = min(section.max_tokens, base.max_tokens)
        logits = 4 * 4 * _SFT_CHUNK * base.vocabulary
        yield Part(
            "cold start",
            _training_bytes(base, micro * tokens, recipe, section.trainer, logits),
            f"{micro} x {tokens} tokens",
        )
    if judge and judge.align:
        prompt = min(_judge_prompt_tokens(judge), base.max_tokens)
        yield from _grpo_phases("align", base, recipe, judge.align, prompt)
    if policy:
        yield from _grpo_phases("policy", base, recipe, policy.grpo, _prompt_tokens(recipe, base))
    if policy and judge and not judge.endpoint:
        rows, prompt = _judge_batch(judge, policy.grpo)
        yield Part(
            "judge",
            generation_bytes(shapes.judge or base, rows, prompt, judge.max_new_tokens),
            f"{rows} x ({prompt} + {judge.max_new_tokens}) tokens",
        )
    if asked := recipe.evaluate:
        prompt, longest = _prompt_tokens(recipe, base), asked.max_completion_tokens
        yield Part(
            "evaluate",
            generation_bytes(base, asked.batch_size, prompt, longest),
            f"{asked.batch_size} x ({prompt} + {longest}) tokens",
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
        generation_bytes(shape, rollouts, prompt, longest, _prompts_read(recipe, section)),
        f"{rollouts} x {size}",
    )
    logits = _LOGIT_BYTES * micro * longest * shape.vocabulary
    tokens = micro * (prompt + longest)
    update = _training_bytes(shape, tokens, recipe, section.trainer, logits)
    yield Part(f"{stage}: update", update, f"{micro} x {size}")


def _prompts_read(recipe: Recipe, section: GrpoRecipe | AlignRecipe) -> int:
    """Return how many prompts a step reads before it samples; `decoding` reads equal ones once."""
    once = recipe.model.fast_generation and recipe.model.backend != "unsloth"
    return section.prompts_per_step * (1 if once else section.group_size)


def micro_batch(whole: int, trainer: Mapping[str, Any]) -> int:
    """Return how many sequences go through the model at once while training."""
    return min(int(trainer.get("per_device_train_batch_size", whole)), whole)


def _prompt_tokens(recipe: Recipe, base: ModelShape) -> int:
    return min(recipe.model.max_prompt_tokens, base.max_tokens)


def _judge_prompt_tokens(judge: JudgeRecipe) -> int:
    return int(judge.max_code_chars / CHARS_PER_TOKEN) + JUDGE_PROMPT_TOKENS


def _judge_batch(judge: JudgeRecipe, grpo: GrpoRecipe) -> tuple[int, int]:
    """Rows of the judge's batch, and tokens of its prompt: no more than the policy can write."""
    rows = min(judge.batch_size, grpo.group_size * grpo.prompts_per_step)
    written = grpo.max_completion_tokens + JUDGE_PROMPT_TOKENS
    return rows, min(_judge_prompt_tokens(judge), written)


_LOGIT_BYTES = 14
"""A logit in the GRPO loss in 16 bits, at most, as TRL's code reads: logits and scaled logits
(2 + 2), float32 log-softmax (4), gradients of the scaled logits, their slice and the logits
(2 + 2 + 2). In float32 it is 16 (four copies), as the test counts."""


def layer_bytes(shape: ModelShape, rank: int, dtype_bytes: int) -> int:
    """Return what one decoder layer keeps of one token for the backward pass.

    Two norms keep their float32 inputs (4 + 4 a hidden unit) and give two inputs of adapters;
    attention keeps query, key, value and output; the MLP gate, activation, up and product; seven
    adapters their inner values.
    """
    norms = 8 * shape.hidden + 2 * dtype_bytes * shape.hidden
    attention = dtype_bytes * 2 * (shape.query + shape.key)
    mlp = 4 * dtype_bytes * shape.intermediate
    return norms + attention + mlp + 7 * dtype_bytes * rank


def activation_bytes(
    shape: ModelShape,
    tokens: int,
    rank: int,
    dtype_bytes: int,
    is_checkpointed: bool,
    loss_bytes: int,
) -> int:
    """Return the peak of activations, logits and their gradients for so many tokens.

    The loss is at its peak (`loss_bytes`) when all layers have been computed, and gone when their
    gradients are computed. With gradient checkpointing every layer keeps its input only, and one
    layer at a time is computed again.
    """
    layer = layer_bytes(shape, rank, dtype_bytes)
    kept, again = layer * shape.layers, 0
    if is_checkpointed:
        kept, again = shape.layers * dtype_bytes * shape.hidden, layer
    gradients = 2 * dtype_bytes * shape.intermediate
    return tokens * kept + max(loss_bytes, tokens * (again + gradients))


def _training_bytes(
    shape: ModelShape, tokens: int, recipe: Recipe, trainer: Mapping[str, Any], loss_bytes: int
) -> int:
    checkpointed = bool(trainer.get("gradient_checkpointing", True))
    activations = activation_bytes(
        shape, tokens, recipe.model.lora.rank, GPU_DTYPE_BYTES, checkpointed, loss_bytes
    )
    return activations + _unpacked_bytes(shape, recipe)


def _unpacked_bytes(shape: ModelShape, recipe: Recipe) -> int:
    """The largest 4-bit matrix, unpacked to be multiplied with."""
    if recipe.model.quantization == "none":
        return 0
    return GPU_DTYPE_BYTES * max(linear.weights for linear in shape.linears)


def cache_bytes(shape: ModelShape, tokens: int) -> int:
    """Return the bytes of the key-value cache: 2 x layers x key-value width a token."""
    return 2 * shape.layers * shape.key * GPU_DTYPE_BYTES * tokens


_DRAW_BYTES, _SCORE_BYTES = 20, 8
"""A logit while a token is drawn: in float32 as it came, scaled, and its probability (4 + 4 + 4),
in float64 the running sum (8). The first two stay until those of the next token are there."""


def generation_bytes(
    shape: ModelShape, rows: int, prompt: int, longest: int, read: int | None = None
) -> int:
    """Return the peak of sampling: while the prompts are read, or at the last token.

    Args:
        shape: The model's.
        rows: Texts sampled at once.
        prompt: Tokens of each prompt.
        longest: Tokens of each completion.
        read: How many of the prompts differ and are read; all of them if not given.
    """
    s, texts = GPU_DTYPE_BYTES, rows * (prompt + longest)
    read = read or rows
    prefill = read * prompt * (3 * s * shape.intermediate + (4 + 3 * s) * shape.hidden)
    prefill += read * prompt * prompt  # the padding mask, one byte an entry
    grown = cache_bytes(shape, texts) // (2 * shape.layers)  # the keys of one layer, copied
    expanded = 2 * texts * shape.query * s if shape.key < shape.query else 0
    logits = rows * shape.vocabulary
    last = max(max(grown, expanded) + _SCORE_BYTES * logits, _DRAW_BYTES * logits)
    return max(cache_bytes(shape, read * prompt) + prefill, cache_bytes(shape, texts) + last)


def _work(recipe: Recipe, shapes: Shapes) -> Work | None:
    if recipe.policy is None:
        return None
    grpo, base = recipe.policy.grpo, shapes.base
    rollouts = grpo.group_size * grpo.prompts_per_step
    prompt, longest = _prompt_tokens(recipe, base), grpo.max_completion_tokens
    tokens = rollouts * (prompt + longest)
    # A pass costs 2 operations a weight and token. Rollout 1 pass, reference 1 (with KL), update
    # forward 1, again for checkpointing 1, backward 1 (the frozen weights get no gradient).
    recomputed = bool(grpo.trainer.get("gradient_checkpointing", True))
    passes = 3 + (grpo.kl > 0) + recomputed
    spared = (rollouts - _prompts_read(recipe, grpo)) * prompt
    flops = 2.0 * base.linear_weights * (tokens * passes - spared)
    flops += 2.0 * base.vocabulary * base.hidden * rollouts * longest * passes
    decoded = _decode_bytes(base, recipe, rollouts, rollouts, prompt, longest)
    judge = recipe.judge
    if judge and not judge.endpoint and recipe.policy.reward.judge:
        shape = shapes.judge or base
        rows, asked = _judge_batch(judge, grpo)
        flops += 2.0 * shape.linear_weights * rollouts * (asked + judge.max_new_tokens)
        decoded += _decode_bytes(shape, recipe, rollouts, rows, asked, judge.max_new_tokens)
    return Work(rollouts, flops, decoded)


def _decode_bytes(
    shape: ModelShape, recipe: Recipe, count: int, rows: int, prompt: int, longest: int
) -> float:
    """Bytes read to write `count` texts in batches of `rows`: weights a token, cache a text."""
    batches = -(-count // rows)
    weights = shape.base_bytes(recipe.model.quantization, GPU_DTYPE_BYTES)
    cache = cache_bytes(shape, 1) * count * longest * (prompt + longest / 2)
    return float(batches * longest * weights + cache)
