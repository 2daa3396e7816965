"""What prompts begin with, computed once: its keys and values, kept from call to call.

They are those of one state of the weights. `under` says which state it is now and forgets all there
was under another one, so that a judge that was trained further never meets keys of its past.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from seccoderx_lite.models.adapters import Role, adapter_parameters

MAX_BYTES = 128 << 20
"""Most memory a cache keeps between calls; what was used longest ago goes first."""

Prefix = tuple[int, ...]
"""Token ids."""
_Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, of shape (heads, tokens, size of a head)."""


class PrefixCache:
    """Keys and values of prefixes under one state of a model's weights."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Prefix, _Layers] = OrderedDict()
        self._weights: Hashable = None
        self._works = True

    def under(self, weights: Hashable) -> None:
        """Keep only what was computed under these weights."""
        if weights != self._weights:
            self._kept.clear()
            self._weights = weights

    def past(
        self, model: Any, tokenizer: Any, prefixes: Sequence[Prefix]
    ) -> tuple[DynamicCache, torch.Tensor] | None:
        """Return a past that starts row n with prefix n, and its attention mask, padded left.

        None for models whose cache is of another kind than keys and values of every token.
        """
        if not self._works:
            return None
        distinct = list(dict.fromkeys(prefixes))
        found = {prefix: self._kept[prefix] for prefix in distinct if prefix in self._kept}
        if missing := [prefix for prefix in distinct if prefix not in found]:
            computed = _computed(model, tokenizer, missing)
            if computed is None:
                self._works = False
                return None
            found |= computed
        self._keep(found)
        layers = [found[prefix] for prefix in distinct]
        device = layers[0][0][0].device
        rows = torch.tensor([distinct.index(prefix) for prefix in prefixes], device=device)
        length = max(map(len, distinct))
        past = DynamicCache()
        for number in range(len(layers[0])):
            keys, values = (
                _rows([one[number][part] for one in layers], rows, length) for part in (0, 1)
            )
            past.update(keys, values, number)
        lengths = torch.tensor([len(prefix) for prefix in prefixes], device=device)
        mask = torch.arange(length, device=device) >= length - lengths[:, None]
        return past, mask.long()

    def _keep(self, used: dict[Prefix, _Layers]) -> None:
        for prefix, layers in used.items():
            self._kept[prefix] = layers
            self._kept.move_to_end(prefix)
        while self.bytes > self._max_bytes:
            self._kept.popitem(last=False)

    @property
    def bytes(self) -> int:
        """Memory of what is kept."""
        return sum(
            part.nbytes for layers in self._kept.values() for layer in layers for part in layer
        )


def weights_of(model: Any, role: Role) -> Hashable:
    """Return what differs whenever a role's adapter, or how strongly it acts, does.

    A weighted sum of each tensor's bits, in wrapping 64-bit integers. Computed where the weights
    are, so it is cheap enough for every call, unlike `roles.adapter_digest`.
    """
    if role == "reference":
        return role
    parameters = adapter_parameters(model, role)
    sums = [_weighted_bits(parameter.detach()) for parameter in parameters.values()]
    settings = model.peft_config[model.active_adapters[0]]
    return role, repr(settings), *parameters, *torch.stack(sums).tolist()


_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _weighted_bits(tensor: torch.Tensor) -> torch.Tensor:
    bits = tensor.contiguous().flatten().view(_BITS[tensor.element_size()]).long()
    places = torch.arange(1, len(bits) + 1, device=bits.device)
    return (bits * (places * 0x1E3779B97F4A7C15 | 1)).sum()


def _rows(parts: Sequence[torch.Tensor], rows: torch.Tensor, length: int) -> torch.Tensor:
    """Return part `rows[n]` as row n, padded left to a length; parts are (heads, tokens, size)."""
    if len(parts) == 1:
        return parts[0].expand(len(rows), -1, -1, -1)
    return torch.stack(
        [torch.nn.functional.pad(part, (0, 0, length - part.shape[1], 0)) for part in parts]
    )[rows]


def _computed(
    model: Any, tokenizer: Any, prefixes: Sequence[Prefix]
) -> dict[Prefix, _Layers] | None:
    ids, mask = padded_left(model, tokenizer, prefixes)
    output = model(input_ids=ids, attention_mask=mask, logits_to_keep=1, use_cache=True,
                   position_ids=positions(mask))  # fmt: skip
    layers = getattr(output.past_key_values, "layers", [])
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None
    return {
        prefix: [
            # A copy: a view would keep the memory of all.
            (
                layer.keys[row, :, -len(prefix) :].clone(),
                layer.values[row, :, -len(prefix) :].clone(),
            )
            for layer in layers
        ]
        for row, prefix in enumerate(prefixes)
    }


def padded_left(
    model: Any, tokenizer: Any, sequences: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and their mask as tensors on the model's device."""
    length = max(map(len, sequences))
    missing = [length - len(ids) for ids in sequences]
    padded = [
        [tokenizer.pad_token_id] * pads + list(ids)
        for pads, ids in zip(missing, sequences, strict=True)
    ]
    device = next(model.parameters()).device
    ids = torch.tensor(padded, device=device)
    places = torch.arange(length, device=device)
    return ids, (places >= torch.tensor(missing, device=device)[:, None]).long()


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Return the position of every token, counted without padding."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
