"""Generating on a CPU with one matrix a layer instead of 4-bit weights and an adapter beside them.

Every token that is generated unpacks the 4-bit weights and multiplies with the two small matrices
of the adapter, layer by layer. On a CPU most of the time of a small model goes into that. Here a
float32 copy of each layer's weights is made, with the active adapter added, and stands in for the
layer for as long as a `with` block lasts. The weights themselves are not touched.

In 16 bits this is not done: adding would round small updates of the adapter away, and a policy
would be sampled that is not the one in training.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torch.nn.functional import linear

from seccoderx_lite.errors import ModelError

if TYPE_CHECKING:
    from seccoderx_lite.roles import Base


def generating(base: "Base") -> AbstractContextManager[None]:
    """Let a base generate in the way of its recipe."""
    return merged(base.model) if base.merges else nullcontext()


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """Let the layers of a model compute with merged copies of their weights; for inference only.

    Nothing is changed for models that compute in 16 bits. No role may be swapped inside.
    """
    with ExitStack() as stack:
        if model.dtype == torch.float32:
            for layer in _lora_layers(model):
                stack.enter_context(_standing_in(layer, _product(layer)))
        yield


def is_merged(model: Any) -> bool:
    """Say whether copies stand in for layers now."""
    return any("forward" in vars(layer) for layer in _lora_layers(model))


def _lora_layers(model: Any) -> list[LoraLayer]:
    return [
        module
        for module in model.modules()
        if isinstance(module, LoraLayer)
        and isinstance(module.get_base_layer(), torch.nn.Linear)
        and not module.lora_variant
    ]


@contextmanager
def _standing_in(layer: Any, forward: Callable[..., torch.Tensor]) -> Iterator[None]:
    if "forward" in vars(layer):
        raise ModelError("a layer's copy is in use already; merged() may not be nested")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


@torch.no_grad()
def _product(layer: Any) -> Callable[..., torch.Tensor]:
    base = layer.get_base_layer()
    weight = dequantize_module_weight(base).detach().float()
    if not layer.disable_adapters:
        for name in layer.active_adapters:
            if name in layer.lora_A:
                weight = weight + layer.get_delta_weight(name)
    bias = base.bias

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return linear(x, weight, bias)

    return forward
