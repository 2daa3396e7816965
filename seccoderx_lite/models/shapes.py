"""The shape of a model, and the memory of its weights, from its config alone.

The model is built on the `meta` device, so every parameter is counted and none is stored. Parameter
counts, 4-bit weights and LoRA adapters are exact; `estimate` adds what a step needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM

from seccoderx_lite.core.errors import ModelError, reason_of
from seccoderx_lite.models.base import resolve_base
from seccoderx_lite.models.random_weights import config_of
from seccoderx_lite.recipe.recipe import LoraRecipe

_BLOCK = 64
"""Weights that share one scale in NF4 (bitsandbytes' default)."""
_NESTED_BLOCK = 256
"""Scales that share one second-level scale, with double quantisation."""
_CODE_BYTES = (16 + 256 + 1) * 4
"""The two code books and the offset of every 4-bit matrix, in float32."""


@dataclass(frozen=True, slots=True)
class Linear:
    name: str
    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        """Number of weights, the bias left out."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What determines a model's memory and compute."""

    parameters: int
    """All parameters; tied ones count once."""
    linears: tuple[Linear, ...]
    """Every linear layer but the output head: these are quantised, and adapted by `all-linear`."""
    layers: int
    hidden: int
    intermediate: int
    heads: int
    query: int
    """Heads x head size."""
    key: int
    """Key-value heads x head size."""
    vocabulary: int
    max_tokens: int
    """Context length."""

    @property
    def linear_weights(self) -> int:
        """Weights of the linear layers: one multiplication each per token."""
        return sum(linear.weights for linear in self.linears)

    def base_bytes(self, quantization: Literal["nf4", "none"], dtype_bytes: int) -> int:
        """Return the bytes of the weights in memory; embeddings and norms are never 4-bit."""
        if quantization == "none":
            return self.parameters * dtype_bytes
        packed = sum(nf4_bytes(linear.weights) for linear in self.linears)
        return packed + (self.parameters - self.linear_weights) * dtype_bytes

    def lora_parameters(self, recipe: LoraRecipe) -> int:
        """Return the number of weights of one adapter: rank x (inputs + outputs) per layer."""
        adapted = [linear for linear in self.linears if _is_target(linear, recipe.target_modules)]
        return sum(recipe.rank * (linear.inputs + linear.outputs) for linear in adapted)


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes of the base, and of the judges' own bases if they have one."""

    base: ModelShape
    judge: ModelShape | None
    functionality: ModelShape | None = None
    """The model that grades function in the evaluation, if it is another one."""


def nf4_bytes(weights: int) -> int:
    """Return the bytes of one weight matrix in NF4 with double quantisation, as in bitsandbytes.

    Half a byte per weight, one byte per block of 64 for its scale, four bytes per 256 scales, and
    the code books.

    >>> nf4_bytes(1024 * 1024)  # half a byte per weight, and 1.6% for the scales
    542020
    """
    blocks = -(-weights // _BLOCK)
    return -(-weights // 2) + blocks + 4 * -(-blocks // _NESTED_BLOCK) + _CODE_BYTES


def _is_target(linear: Linear, targets: str | Sequence[str]) -> bool:
    if isinstance(targets, str):
        return True
    return any(linear.name == name or linear.name.endswith(f".{name}") for name in targets)


def parameter_count(base: str) -> int:
    """Return how many parameters a base model has; tied ones count once.

    Raises:
        ModelError: there is no such config.
    """
    model, _ = _without_weights(base)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


def model_shape(base: str) -> ModelShape:
    """Return the shape of a base model; for a hub id only the config is downloaded.

    Raises:
        ModelError: there is no such config, or the model is not a dense decoder.
    """
    model, config = _without_weights(base)
    try:
        return _shape_of(model, config)
    except AttributeError as error:
        raise ModelError(
            f"{base}: only dense decoders such as Qwen and Llama can be estimated ({error})"
        ) from error


def _without_weights(base: str) -> tuple[Any, Any]:
    """The model on the meta device, and its config."""
    config = config_of(resolve_base(base))
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config), config
    except Exception as error:  # whatever the library makes of the numbers of a damaged config
        raise ModelError(
            f"{base}: cannot build a model of its config: {reason_of(error)}; give another model"
        ) from error


def _shape_of(model: Any, config: Any) -> ModelShape:
    head = model.get_output_embeddings()
    linears = tuple(
        Linear(name, module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    model.tie_weights()
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        linears=linears,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=heads,
        query=heads * size,
        key=(getattr(config, "num_key_value_heads", None) or heads) * size,
        vocabulary=config.vocab_size,
        max_tokens=config.max_position_embeddings,
    )
