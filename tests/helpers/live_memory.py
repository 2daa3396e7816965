"""Bytes of all tensors alive at once, counted on the CPU: the oracle of the memory estimate."""

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveMemory(TorchDispatchMode):
    """While active, `peak` is the most bytes that new tensors held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._foreign: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for storage in _storages((args, kwargs or {})):
            if storage._cdata not in self._alive:
                self._foreign.setdefault(storage._cdata, StorageWeakRef(storage))
        self._alive = {k: held for k, held in self._alive.items() if not held[0].expired()}
        self._foreign = {k: ref for k, ref in self._foreign.items() if not ref.expired()}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in self._foreign:
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


def _storages(values):
    for tensor in tree_iter(values):
        if isinstance(tensor, torch.Tensor):
            yield tensor.untyped_storage()
