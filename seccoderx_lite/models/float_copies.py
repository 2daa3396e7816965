"""Generating on a CPU with one matrix a layer instead of 4-bit weights and an adapter beside them.

Every token that is generated unpacks the 4-bit weights and multiplies with the two small matrices
of the adapter, layer by layer. On a CPU much of the time of a small model goes into that. Here a
float32 copy of each layer's weights is made, with the active adapter added, and stands in for the
layer for as long as a `with` block lasts. The weights themselves are not touched.

In 16 bits this is not done: adding would round small updates of the adapter away, and a policy
would be sampled that is not the one in training.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_bnb_weight
from torch.nn.functional import linear

MAX_BYTES = 1 << 30
"""Models whose copies would take more generate without them: a CPU's memory is worth more then."""


@contextmanager
def float_copies(model: Any) -> Iterator[None]:
    """Let the layers of a model compute with merged copies of their weights; for inference only.

    Nothing is changed for models on a GPU, in 16 bits or too large, nor inside another `merged`.
    No role may be swapped inside.
    """
    with ExitStack() as stack:
        if (
            model.device.type == "cpu"
            and model.dtype == torch.float32
            and not has_float_copies(model)
        ):
            layers = _plain_layers(model)
            weights = sum(layer.in_features * layer.out_features for layer in layers)
            for layer in layers if 4 * weights <= MAX_BYTES else []:
                stack.enter_context(_standing_in(layer, _product(layer)))
        yield


def has_float_copies(model: Any) -> bool:
    """Say whether copies stand in for layers now."""
    return any("forward" in vars(layer) for layer in _plain_layers(model))


def _plain_layers(model: Any) -> list[Any]:
    """The layers that are a matrix with LoRA of the plain kind beside it; others stay as they are.

    Subclasses of Linear may compute something else, DoRA does, and `lora_bias` adds a bias.
    """
    return [
        module
        for module in model.modules()
        if isinstance(module, LoraLayer)
        and (type(module.get_base_layer()) is torch.nn.Linear or _is_4bit(module.get_base_layer()))
        and not module.lora_variant
        and not any(module.lora_bias.values())
    ]


def _is_4bit(layer: Any) -> bool:
    return type(layer).__name__ == "Linear4bit"


@contextmanager
def _standing_in(layer: Any, forward: Callable[..., torch.Tensor]) -> Iterator[None]:
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


@torch.no_grad()
def _product(layer: Any) -> Callable[..., torch.Tensor]:
    base = layer.get_base_layer()
    weight = dequantize_bnb_weight(base.weight) if _is_4bit(base) else base.weight.detach()
    if not layer.disable_adapters:
        for name in layer.active_adapters:
            if name in layer.lora_A:
                weight = weight + layer.get_delta_weight(name)
    bias = base.bias

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return linear(x, weight, bias)

    return forward
