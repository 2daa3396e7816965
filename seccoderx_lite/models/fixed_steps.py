"""Steps of decoding whose tensors keep their shape, so that a GPU can replay them as a graph.

One token takes a chain of small kernels, and starting each costs more than its work. A CUDA graph
starts the whole chain at once, but needs tensors that neither move nor grow: keys and values get
their full length from the start, and rows that end stay until half of the rows have ended.
"""

import logging
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from seccoderx_lite.models.prefix_cache import positions

logger = logging.getLogger(__name__)

_ATTENTION = ("eager", "sdpa")
"""Kinds of attention that take a mask of any form."""
_WARM_UPS = 2


class _FixedLayer(DynamicLayer):
    """Keys and values of one layer, at their full length."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, place: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys: torch.Tensor = keys
        self.values: torch.Tensor = values
        self._place = place
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new keys and values at the place of the current token."""
        self.keys.index_copy_(2, self._place, key_states)
        self.values.index_copy_(2, self._place, value_states)
        return self.keys, self.values


def can_be_fixed(model: Any, cache: DynamicCache) -> bool:
    """Whether steps of this model can have a fixed shape: no windows, and a mask of any form."""
    is_plain = all(type(layer) is DynamicLayer for layer in cache.layers)
    return is_plain and model.config._attn_implementation in _ATTENTION


class FixedSteps:
    """The steps after a prompt; replayed as a CUDA graph on a GPU."""

    _mask: torch.Tensor
    """Which tokens of each row count, up to the final length; shape (rows, width)."""
    _slots: torch.Tensor
    """The rows that have not ended."""
    _ids: torch.Tensor
    _position: torch.Tensor
    _bias: torch.Tensor
    """The mask as it is added to attention scores; shape (rows, 1, 1, width)."""
    _logits: torch.Tensor
    _cache: DynamicCache
    _graph: "torch.cuda.CUDAGraph | None"

    def __init__(self, model: Any, cache: DynamicCache, mask: torch.Tensor, width: int) -> None:
        """Take over the filled `cache` of prompts with this mask; `width` is the final length."""
        self._model, self._config = model, model.config
        self._length = mask.shape[1]
        self._place = torch.tensor([self._length], device=mask.device)
        rows = torch.arange(len(mask), device=mask.device)
        room = (0, width - self._length)
        self._take(_states(cache), torch.nn.functional.pad(mask, room), rows)
        layers: list[Any] = list(cache.layers)
        for layer in layers:  # generate holds on to the cache
            layer.keys, layer.values = layer.keys.new_empty(0), layer.values.new_empty(0)

    def keep(self, unfinished: torch.Tensor) -> None:
        """Continue with these of the current rows only."""
        self._slots = self._slots[unfinished]
        if 2 * len(self._slots) <= len(self._mask):
            self._take(_states(self._cache), self._mask, self._slots)

    def next(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append a token to each row; return the logits after it, shape (rows, vocabulary)."""
        self._ids[self._slots, 0] = tokens
        self._mask[:, self._length] = 1
        self._place.fill_(self._length)
        self._position.copy_(positions(self._mask[:, : self._length + 1])[:, -1:])
        self._length += 1
        self._bias.masked_fill_(self._mask[:, None, None].bool(), 0.0)
        if self._graph:
            self._graph.replay()
        else:
            self._logits = self._forward()
        return self._logits[self._slots]

    def _take(
        self,
        states: list[tuple[torch.Tensor, torch.Tensor]],
        mask: torch.Tensor,
        chosen: torch.Tensor,
    ) -> None:
        """Make the tensors of these rows, and the graph that works on them."""
        self._graph = None
        self._mask = mask[chosen]
        self._slots = torch.arange(len(chosen), device=mask.device)
        self._ids = torch.zeros(len(chosen), 1, dtype=torch.long, device=mask.device)
        self._position = torch.zeros_like(self._ids)
        dtype = states[0][0].dtype
        blocked = torch.full_like(self._mask, torch.finfo(dtype).min, dtype=dtype)
        self._bias = blocked.masked_fill_(self._mask.bool(), 0.0)[:, None, None]
        self._cache = DynamicCache(config=self._config)
        width = self._mask.shape[1]
        layers: list[Any] = [
            _FixedLayer(_widened(keys[chosen], width), _widened(values[chosen], width), self._place)
            for keys, values in states
        ]
        self._cache.layers = layers
        self._logits = torch.empty(0)
        if mask.is_cuda:
            self._capture()

    def _forward(self) -> torch.Tensor:
        output = self._model(
            input_ids=self._ids,
            attention_mask=self._bias,
            position_ids=self._position,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _capture(self) -> None:
        """Record the step; without a graph, the same step runs kernel by kernel.

        The trial runs write where the next token is written anyway.
        """
        self._place.fill_(self._length)
        self._position.fill_(self._length)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._forward()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._logits = self._forward()
        except RuntimeError as error:
            logger.warning("model.decoding: this model cannot be recorded as a graph: %s", error)
            return
        self._graph = graph


def _states(cache: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of each layer."""
    layers: list[Any] = list(cache.layers)
    return [(layer.keys, layer.values) for layer in layers]


def _widened(states: torch.Tensor, width: int) -> torch.Tensor:
    """Keys or values with room for `width` tokens; a copy."""
    room = states.new_zeros(*states.shape[:2], width, states.shape[3])
    room[:, :, : min(width, states.shape[2])] = states[:, :, :width]
    return room
