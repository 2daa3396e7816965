"""Estimate the memory and work of a recipe from the models' configs, without weights or a GPU.

Weights, adapters and optimiser are always in memory and counted exactly (`shapes`). Each phase adds
what it needs at most, with the longest prompts and completions, as TRL and transformers hold them
with fused attention: in 16 bits on a CUDA GPU, in float32 on a CPU. The terms of a training step
were compared on a CPU with all live tensors of real steps (`tests/models/test_estimate.py`);
nothing was measured on a GPU. Main memory, disk and hours are in `resources`.

Phases run one after the other, so the peak is the constant part plus the largest phase.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from seccoderx_lite.models.engine_memory import GRAPH_BYTES, engine_bytes, uses_engine
from seccoderx_lite.models.shapes import ModelShape, Shapes, model_shape
from seccoderx_lite.models.step_memory import (
    GPU_DTYPE_BYTES,
    activation_bytes,
    full_loss_bytes,
    generation_bytes,
    plain_attention_bytes,
    tiled_loss_bytes,
)
from seccoderx_lite.models.step_work import (
    Work,
    computed_prompts,
    judge_batch,
    judge_prompt_tokens,
    policy_work,
    prompt_tokens,
)
from seccoderx_lite.recipe.recipe import (
    Recipe,
)
from seccoderx_lite.recipe.training import GroupRecipe, SupervisedRecipe

CUDA_BYTES = 800 * 2**20
"""Assumed for the CUDA context, its libraries and fragmentation; depends on card and driver."""
PYTHON_BYTES = 700 * 2**20
"""Assumed for Python with torch, transformers and TRL in main memory."""
_SFT_CHUNK = 256
"""Tokens whose logits the SFT loss of TRL 1.14 holds at the same time (`chunked_nll`)."""


@dataclass(frozen=True, slots=True)
class Part:
    """Memory for one purpose."""

    name: str
    bytes: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Hardware:
    """How a kind of machine holds numbers."""

    name: str
    dtype_bytes: int
    """Bytes per number of weights that are not 4-bit, of activations and of the cache."""
    logit_bytes: int
    """Most bytes per logit of the GRPO loss of TRL 1.14, read from its code. In 16 bits: logits and
    scaled logits (2 + 2), float32 log-softmax (4), gradients of the scaled logits, their slice and
    the logits (2 + 2 + 2). In float32: four copies."""
    checkpoints: bool
    """Whether training uses gradient checkpointing by default."""
    fixed: Part


GPU = Hardware(
    "GPU", GPU_DTYPE_BYTES, 14, True, Part("CUDA and fragmentation", CUDA_BYTES, "assumed")
)
CPU = Hardware("CPU", 4, 16, False, Part("Python and libraries", PYTHON_BYTES, "assumed"))


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


def shapes_of(recipe: Recipe) -> Shapes:
    """Return the shapes of the models a recipe loads.

    Raises:
        ModelError: a config cannot be loaded, or is not that of a dense decoder.
    """
    other = recipe.judge.base if recipe.judge else None
    grader = recipe.evaluate.functionality_judge if recipe.evaluate else None
    third = grader.base if grader and grader.base != recipe.model.base else None
    return Shapes(
        model_shape(recipe.model.base),
        model_shape(other) if other else None,
        model_shape(third) if third else None,
    )


def estimate(recipe: Recipe, shapes: Shapes, hardware: Hardware = GPU) -> Estimate:
    """Return memory and work of a recipe on one CUDA GPU, or on the CPU alone."""
    phases = _phases(recipe, shapes, hardware)
    if uses_engine(recipe):
        phases = _with_engine(phases, recipe, shapes, hardware)
    return Estimate(
        tuple(_constant(recipe, shapes, hardware)), tuple(phases), policy_work(recipe, shapes)
    )


def _constant(recipe: Recipe, shapes: Shapes, hardware: Hardware) -> Iterator[Part]:
    base, quantization = shapes.base, recipe.model.quantization
    bits = f"{8 * hardware.dtype_bytes} bits"
    kind = f"NF4, embeddings and norms in {bits}" if quantization == "nf4" else bits
    yield Part(
        "base weights",
        base.base_bytes(quantization, hardware.dtype_bytes),
        f"{base.parameters / 1e6:,.0f} million parameters, {kind}",
    )
    if shapes.judge:
        yield Part(
            "judge's own base",
            shapes.judge.base_bytes(quantization, hardware.dtype_bytes),
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
    yield hardware.fixed


def _is_trained(recipe: Recipe) -> bool:
    judge = recipe.judge
    return bool(recipe.policy or (judge and (judge.cold_start or judge.align)))


def _judge_adapter_is_loaded(recipe: Recipe) -> bool:
    judge = recipe.judge
    return judge is not None and bool(judge.adapter or judge.cold_start or judge.align)


def _sft_phase(
    name: str,
    base: ModelShape,
    recipe: Recipe,
    section: SupervisedRecipe,
    hardware: Hardware,
) -> Part:
    micro = micro_batch(section.batch_size, section.trainer)
    tokens = min(section.max_tokens, base.max_tokens)
    if computes_loss_in_tiles(recipe):
        loss = tiled_loss_bytes(base, micro * tokens, hardware.dtype_bytes, hardware is GPU)
    else:
        loss = 4 * 4 * _SFT_CHUNK * base.vocabulary
    return Part(
        name,
        _training_bytes(base, micro, tokens, recipe, section.trainer, loss, hardware),
        f"{micro} x {tokens} tokens",
    )


def _phases(recipe: Recipe, shapes: Shapes, hardware: Hardware) -> Iterator[Part]:
    base, judge, policy = shapes.base, recipe.judge, recipe.policy
    width = hardware.dtype_bytes
    if judge and (section := judge.cold_start):
        yield _sft_phase("cold start", base, recipe, section, hardware)
    if judge and judge.align:
        prompt = min(judge_prompt_tokens(judge), base.max_tokens)
        yield from _grpo_phases("align", base, recipe, judge.align, prompt, hardware)
    if policy and policy.warm_start:
        yield _sft_phase("warm start", base, recipe, policy.warm_start, hardware)
    if policy:
        prompt = prompt_tokens(recipe, base)
        yield from _grpo_phases("policy", base, recipe, policy.grpo, prompt, hardware)
    if policy and judge and not judge.endpoint:
        rows, prompt = judge_batch(judge, policy.grpo)
        yield Part(
            "judge",
            generation_bytes(shapes.judge or base, rows, prompt, judge.max_new_tokens, None, width),
            f"{rows} x ({prompt} + {judge.max_new_tokens}) tokens",
        )
    if evaluation := recipe.evaluate:
        prompt, longest = prompt_tokens(recipe, base), evaluation.max_completion_tokens
        own, detail = 0, ""
        if grader := shapes.functionality:
            own = grader.base_bytes(recipe.model.quantization, width)
            detail = ", and the functionality judge's base"
        yield Part(
            "evaluate",
            own + generation_bytes(base, evaluation.batch_size, prompt, longest, None, width),
            f"{evaluation.batch_size} x ({prompt} + {longest}) tokens{detail}",
        )
    if recipe.export:
        yield _export_phase(recipe, base, width)


def _with_engine(
    phases: Iterator[Part], recipe: Recipe, shapes: Shapes, hardware: Hardware
) -> Iterator[Part]:
    """Add vLLM's engine to the phases in which it is awake, in the place of the base's generation.

    On a GPU it sleeps during the update and keeps only its graphs; on a CPU it stays.
    """
    engine = engine_bytes(recipe, shapes.base, hardware.dtype_bytes)
    grader = shapes.functionality
    own = {
        "policy: rollout": 0,
        "policy: update": None,
        "judge": None if shapes.judge else 0,
        "evaluate": grader.base_bytes(recipe.model.quantization, hardware.dtype_bytes)
        if grader
        else 0,
    }
    for part in phases:
        if part.name not in own:
            yield part
            continue
        other = own[part.name]
        asleep = part.name == "policy: update" and hardware is GPU
        held = GRAPH_BYTES if asleep else engine
        size = held + (part.bytes if other is None else other)
        yield Part(part.name, size, f"{part.detail}, with vLLM")


def gate_batch(recipe: Recipe) -> int:
    """Return how many texts the export's check generates at once.

    A quarter of the evaluation's, because the model is in 16 bits.
    """
    batch = recipe.evaluate.batch_size if recipe.evaluate else 64
    return max(1, batch // 4)


def _export_phase(recipe: Recipe, base: ModelShape, width: int) -> Part:
    """The check of an export: a merged model is loaded in 16 bits, when the base is released."""
    export = recipe.export
    assert export is not None
    longest = recipe.evaluate.max_completion_tokens if recipe.evaluate else 1024
    rows, prompt = min(gate_batch(recipe), export.gate_tasks), prompt_tokens(recipe, base)
    is_merged = set(export.formats) != {"adapter"}
    released = base.base_bytes(recipe.model.quantization, width)
    more = max(0, base.parameters * width - released) if is_merged else 0
    size = more + generation_bytes(base, rows, prompt, longest, None, width)
    what = f"the merged model in {8 * width} bits in place of the base, " if is_merged else ""
    return Part("export: check", size, f"{what}{rows} x ({prompt} + {longest}) tokens")


def _grpo_phases(
    stage: str,
    shape: ModelShape,
    recipe: Recipe,
    section: GroupRecipe,
    prompt: int,
    hardware: Hardware,
) -> Iterator[Part]:
    rollouts = section.group_size * section.prompts_per_step
    micro = micro_batch(rollouts, section.trainer)
    longest = section.max_completion_tokens
    size = f"({prompt} + {longest}) tokens"
    yield Part(
        f"{stage}: rollout",
        generation_bytes(
            shape,
            rollouts,
            prompt,
            longest,
            computed_prompts(recipe, section),
            hardware.dtype_bytes,
        ),
        f"{rollouts} x {size}",
    )
    if computes_loss_in_tiles(recipe):
        loss = tiled_loss_bytes(shape, micro * longest, hardware.dtype_bytes, hardware is GPU)
    else:
        loss = full_loss_bytes(shape, micro * longest, hardware.logit_bytes)
    tokens = prompt + longest
    update = _training_bytes(shape, micro, tokens, recipe, section.trainer, loss, hardware)
    yield Part(f"{stage}: update", update, f"{micro} x {size}")


def computes_loss_in_tiles(recipe: Recipe) -> bool:
    """Return whether the installed TRL computes the logits of its losses in tiles.

    TRL 1.14, which unsloth needs, holds those of all completion tokens of a micro-batch.
    """
    major, minor = map(int, version("trl").split(".")[:2])
    return (major, minor) >= (1, 16) and recipe.model.backend != "unsloth"


def micro_batch(sequences: int, trainer: Mapping[str, Any]) -> int:
    """Return how many of a step's sequences go through the model at once in training."""
    return min(int(trainer.get("per_device_train_batch_size", sequences)), sequences)


def _training_bytes(
    shape: ModelShape,
    rows: int,
    tokens: int,
    recipe: Recipe,
    trainer: Mapping[str, Any],
    loss_bytes: int,
    hardware: Hardware,
) -> int:
    """The most that training on `rows` texts of `tokens` tokens at once takes."""
    checkpointed = bool(trainer.get("gradient_checkpointing", hardware.checkpoints))
    attention = 0 if hardware is GPU else plain_attention_bytes(shape, rows, tokens, is_16_bit=True)
    activations = activation_bytes(
        shape,
        rows * tokens,
        recipe.model.lora.rank,
        hardware.dtype_bytes,
        checkpointed,
        loss_bytes,
        attention,
    )
    return activations + _unpacked_bytes(shape, recipe, hardware.dtype_bytes)


def _unpacked_bytes(shape: ModelShape, recipe: Recipe, dtype_bytes: int) -> int:
    """The largest 4-bit matrix, dequantised for its multiplication."""
    if recipe.model.quantization == "none":
        return 0
    return dtype_bytes * max(linear.weights for linear in shape.linears)
