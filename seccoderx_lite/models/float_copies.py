"""Faster generation on a CPU: layers compute with float32 copies of weights plus adapter.

Normally every generated token unpacks the 4-bit weights of each layer and multiplies with the two
matrices of the adapter, which takes much of a small model's time on a CPU. Inside a `float_copies`
block, each layer uses one float32 matrix instead: its weights with the active adapter added, if
there is one. The weights themselves are not changed. (The export's merge is in `stages.export`.)

Models in 16 bits are left alone: adding would round small updates of the adapter away, and the
sampled policy would not be the one in training.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_bnb_weight
from torch.nn.functional import linear

MAX_BYTES = 1 << 30
"""Most memory for copies; larger models generate without them."""


@contextmanager
def float_copies(model: Any) -> Iterator[None]:
    """Let a model's layers compute with copies of their weights; for inference only.

    Does nothing for models on a GPU, in 16 bits or too large, nor inside another such block. Roles
    cannot be switched inside.
    """
    with ExitStack() as stack:
        if (
            model.device.type == "cpu"
            and model.dtype == torch.float32
            and not has_float_copies(model)
        ):
            layers = _plain_layers(model)
            weights = sum(layer.in_features * layer.out_features for layer in layers)
            if 4 * weights <= MAX_BYTES:
                for layer in layers:
                    stack.enter_context(_replaced_forward(layer, _forward_with_copy(layer)))
                stack.enter_context(_without_autocast(model))
        yield


def has_float_copies(model: Any) -> bool:
    """Whether layers compute with copies now."""
    return any("forward" in vars(layer) for layer in _plain_layers(model))


def _plain_layers(model: Any) -> list[Any]:
    """Return the layers that are one matrix, in 4 bits or plus plain LoRA; others are left alone.

    Subclasses of Linear may compute something else, as DoRA does, and `lora_bias` adds a bias.
    """
    adapted = [
        module
        for module in model.modules()
        if isinstance(module, LoraLayer)
        and (type(module.get_base_layer()) is torch.nn.Linear or _is_4bit(module.get_base_layer()))
        and not module.lora_variant
        and not any(module.lora_bias.values())
    ]
    inside = {id(layer.get_base_layer()) for layer in adapted}
    bare = [one for one in model.modules() if _is_4bit(one) and id(one) not in inside]
    return adapted + bare


def _is_4bit(layer: Any) -> bool:
    """Whether a layer is bitsandbytes' own; PEFT's layer around it has the same name."""
    return type(layer).__name__ == "Linear4bit" and not isinstance(layer, LoraLayer)


@contextmanager
def _without_autocast(model: Any) -> Iterator[None]:
    """Undo accelerate's autocast for a while: it would convert every copy for every token."""
    own, plain = vars(model).get("forward"), vars(model).get("_original_forward")
    if plain:
        model.forward = plain
    try:
        yield
    finally:
        if plain:
            model.forward = own


@contextmanager
def _replaced_forward(layer: Any, forward: Callable[..., torch.Tensor]) -> Iterator[None]:
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


@torch.no_grad()
def _forward_with_copy(layer: Any) -> Callable[..., torch.Tensor]:
    is_adapted = isinstance(layer, LoraLayer)
    base = layer.get_base_layer() if is_adapted else layer
    weight = dequantize_bnb_weight(base.weight) if _is_4bit(base) else base.weight.detach()
    if is_adapted and not layer.disable_adapters:
        for name in layer.active_adapters:
            if name in layer.lora_A:
                weight = weight + layer.get_delta_weight(name)
    bias = base.bias

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return linear(x, weight, bias)

    return forward
