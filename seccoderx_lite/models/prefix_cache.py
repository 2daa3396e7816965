"""Keys and values of prompt prefixes, kept between calls.

Entries belong to one state of the weights. `use_weights` drops the entries of any other state, so
that a retrained judge never reuses stale entries.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from seccoderx_lite.models.adapters import Role, adapter_parameters

MAX_BYTES = 128 << 20
"""Most memory a cache keeps between calls; the least recently used entries go first."""

Prefix = tuple[int, ...]
"""Token ids."""
Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values per layer; shape (heads, tokens, head size)."""


class PrefixCache:
    """Keys and values of prefixes under one state of a model's weights."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.entries: OrderedDict[Prefix, Layers] = OrderedDict()
        self._max_bytes = max_bytes
        self._weights: Hashable = None
        self._is_supported = True

    def use_weights(self, weights: Hashable) -> None:
        """Drop the entries if they were computed under other weights; see `weights_key`."""
        if weights != self._weights:
            self.entries.clear()
            self._weights = weights

    def past_key_values(
        self, model: Any, tokenizer: Any, prefixes: Sequence[Prefix]
    ) -> tuple[DynamicCache, torch.Tensor] | None:
        """Return a cache whose row n begins with prefix n, and its attention mask, padded left.

        None for models whose cache does not keep the keys and values of every token.
        """
        if not self._is_supported:
            return None
        distinct = list(dict.fromkeys(prefixes))
        found = {prefix: self.entries[prefix] for prefix in distinct if prefix in self.entries}
        if missing := [prefix for prefix in distinct if prefix not in found]:
            computed = _computed(model, tokenizer, missing)
            if computed is None:
                self._is_supported = False
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

    def _keep(self, used: dict[Prefix, Layers]) -> None:
        for prefix, layers in used.items():
            self.entries[prefix] = layers
            self.entries.move_to_end(prefix)
        while self.bytes > self._max_bytes:
            self.entries.popitem(last=False)

    @property
    def bytes(self) -> int:
        """Memory of all entries."""
        return sum(
            part.nbytes for layers in self.entries.values() for layer in layers for part in layer
        )


def weights_key(model: Any, role: Role) -> Hashable:
    """Return a key that changes whenever the role's adapter or its scaling changes.

    Contains a weighted sum of each tensor's bits, in wrapping 64-bit integers. It is computed on
    the device of the weights, so it is cheap enough for every call, unlike `adapter_digest`.
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
    # The factors differ per place, so that swapped values change the sum; odd ones lose no bits.
    places = torch.arange(1, len(bits) + 1, device=bits.device)
    return (bits * (places * 0x1E3779B97F4A7C15 | 1)).sum()


def _rows(parts: Sequence[torch.Tensor], rows: torch.Tensor, length: int) -> torch.Tensor:
    """Return part `rows[n]` as row n, padded left to `length`; parts are (heads, tokens, size)."""
    if len(parts) == 1:
        return parts[0].expand(len(rows), -1, -1, -1)
    return torch.stack(
        [torch.nn.functional.pad(part, (0, 0, length - part.shape[1], 0)) for part in parts]
    )[rows]


def _computed(
    model: Any, tokenizer: Any, prefixes: Sequence[Prefix]
) -> dict[Prefix, Layers] | None:
    ids, mask = padded_left(model, tokenizer, prefixes)
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions(mask),
        logits_to_keep=1,
        use_cache=True,
    )
    layers = getattr(output.past_key_values, "layers", [])
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None
    return {
        prefix: [
            # Clones: a view would keep the memory of the whole batch.
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
    """Return token ids, padded left, and their attention mask on the model's device."""
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
    """Return the position of every token, not counting padding."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
