"""Stops a training whose base changes: reference policy and judge compute with the same weights."""

from typing import Any

from transformers import TrainerCallback

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.base_digests import base_digests

_STRIDE = 8
"""One tensor in this many is compared at a checkpoint; each checkpoint takes the next ones."""


class BaseGuard(TrainerCallback):
    """Compares the base with its state at the start: in part at each checkpoint, fully at the end.

    It compares before the checkpoint is saved, so a changed base leaves none to resume from.
    """

    def __init__(self) -> None:
        self._start: dict[str, str] = {}
        self._checks = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self._start:  # memory that ran out makes the trainer begin again
            self._start = base_digests(kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the base where the training ends or a checkpoint is about to be saved."""
        if control.should_training_stop:
            self._check(base_digests(kwargs["model"]), state.global_step)
        elif control.should_save:
            self._check(base_digests(kwargs["model"], self._checks, _STRIDE), state.global_step)
            self._checks += 1

    def _check(self, now: dict[str, str], step: int) -> None:
        changed = [name for name, digest in now.items() if self._start.get(name) != digest]
        if changed:
            raise ModelError(
                f"step {step}: the base model changed while an adapter was trained: "
                f"{len(changed)} of {len(now)} compared tensors differ from the start, such as "
                f"{changed[0]}. The judge, the KL reference and every result since the last "
                "checkpoint are invalid; do not merge adapters into the base while training"
            )
