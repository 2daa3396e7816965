"""Switch between roles: the base is loaded once, and each role activates its own adapter.

The role `reference` is the base with its adapters disabled. Outside vLLM, which takes an adapter
per request, `acting_as` is the only place that switches. It restores everything it changed: active
adapter, `requires_grad`, train/eval mode, gradient checkpointing, attention implementation,
`use_cache` and padding side.

Switch only between an optimiser step and the next forward pass: a switch between forward and
backward loses gradients without an error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers.utils import logging as transformers_logging

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapters import ADAPTER_NAMES, Role
from seccoderx_lite.models.float_copies import has_float_copies

transformers_logging.disable_progress_bar()


_GENERATING = "_flag_for_generation"
"""unsloth's `generate` sets this attribute; modules that have it take their inference path."""


@dataclass(frozen=True)
class _State:
    """Everything that acting as a role may change."""

    active: tuple[str, ...]
    layers: tuple[tuple[tuple[str, ...], bool], ...]
    requires_grad: tuple[bool, ...]
    training: tuple[bool, ...]
    checkpointing: tuple[bool, ...]
    attention: str | None
    generating: tuple[bool, ...]
    use_cache: bool | None
    padding_side: str


def _adapter_layers(model: Any) -> list[BaseTunerLayer]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def _snapshot(model: Any, tokenizer: Any) -> _State:
    layers = _adapter_layers(model)
    return _State(
        active=tuple(model.active_adapters) if isinstance(model, PeftModel) else (),
        layers=tuple((tuple(layer.active_adapters), layer.disable_adapters) for layer in layers),
        requires_grad=tuple(parameter.requires_grad for parameter in model.parameters()),
        training=tuple(module.training for module in model.modules()),
        checkpointing=tuple(_checkpointing_flags(model)),
        attention=model.config._attn_implementation,
        generating=tuple(_GENERATING in vars(module) for module in model.modules()),
        use_cache=getattr(model.config, "use_cache", None),
        padding_side=tokenizer.padding_side,
    )


def _checkpointing_flags(model: Any) -> Iterator[bool]:
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            yield bool(module.gradient_checkpointing)


def _restore(model: Any, tokenizer: Any, state: _State) -> None:
    if isinstance(model, PeftModel):
        for layer, (active, disabled) in zip(_adapter_layers(model), state.layers, strict=True):
            layer.enable_adapters(not disabled)
            layer.set_adapter(list(active))
        model.active_adapter = state.active[0]
        tuner: Any = model.base_model
        tuner.active_adapter = list(state.active)
    for parameter, flag in zip(model.parameters(), state.requires_grad, strict=True):
        parameter.requires_grad = flag
    for module, mode in zip(model.modules(), state.training, strict=True):
        module.training = mode
    flags = iter(state.checkpointing)
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = next(flags)
    model.config._attn_implementation = state.attention
    for module, generating in zip(model.modules(), state.generating, strict=True):
        if not generating:
            vars(module).pop(_GENERATING, None)
    if state.use_cache is not None:
        model.config.use_cache = state.use_cache
    tokenizer.padding_side = state.padding_side


@contextmanager
def acting_as(role: Role, model: Any, tokenizer: Any) -> Iterator[Any]:
    """Activate one role for inference, and restore everything afterwards.

    Inside, the model is in eval mode without gradients, with fused attention if it supports it, the
    cache on and padding on the left.

    Raises:
        ModelError: the role's adapter is not on the model, `float_copies` of another role are in
            use, or something could not be restored.
    """
    if has_float_copies(model):
        raise ModelError(f"role {role}: roles cannot be switched inside float_copies")
    before = _snapshot(model, tokenizer)
    try:
        _activate(role, model)
        model.eval()
        for module in model.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
        if before.attention == "eager" and model._supports_sdpa:
            model.config._attn_implementation = "sdpa"  # eager is faster only in the backward pass
        model.config.use_cache = True
        tokenizer.padding_side = "left"
        with torch.no_grad():
            yield model
    finally:
        _restore(model, tokenizer, before)
        _check_restored(role, before, _snapshot(model, tokenizer))


def _activate(role: Role, model: Any) -> None:
    if role == "reference":
        for layer in _adapter_layers(model):
            layer.enable_adapters(False)
        return
    name = ADAPTER_NAMES[role]
    present = tuple(model.peft_config) if isinstance(model, PeftModel) else ()
    if name not in present:
        raise ModelError(
            f"role {role}: its adapter {name!r} is not on the model (present: {list(present)}); "
            "train or load it first"
        )
    model.set_adapter(name, inference_mode=True)


def _check_restored(role: Role, before: _State, after: _State) -> None:
    changed = [
        field
        for field in before.__dataclass_fields__
        if getattr(before, field) != getattr(after, field)
    ]
    if changed:
        raise ModelError(
            f"role {role}: {', '.join(changed)} not restored after the switch; further training "
            "would update the wrong weights, so the run stops"
        )
