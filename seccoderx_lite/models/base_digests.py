"""Digests of the weights of a base, to prove that nothing has changed them.

Adapters are not part of the base. A weight in 4 bits consists of its codes and of the scales that
they are multiplied with; both are in its digest, because merging an adapter into such a weight and
taking it out again changes both.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch


def base_digests(model: Any, start: int = 0, stride: int = 1) -> dict[str, str]:
    """Return the digest of every `stride`-th tensor of the base, by name, from the `start`-th on.

    Reads each chosen tensor once: one to three seconds per GB.
    """
    return {
        name: _digest(parameter)
        for place, (name, parameter) in enumerate(_base_parameters(model))
        if place % stride == start % stride
    }


def _base_parameters(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return (pair for pair in model.named_parameters() if "lora_" not in pair[0])


def _digest(parameter: Any) -> str:
    digest = hashlib.sha256()
    for tensor in (parameter, *_scales(getattr(parameter, "quant_state", None))):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(values.numpy().data)
    return digest.hexdigest()


def _scales(state: Any) -> Iterator[torch.Tensor]:
    """Yield the scales of a weight in 4 bits; `state2` has the scales of quantised scales."""
    if state is None:
        return
    for name in ("absmax", "code", "offset"):
        value = getattr(state, name, None)
        if isinstance(value, torch.Tensor):
            yield value
    yield from _scales(getattr(state, "state2", None))
