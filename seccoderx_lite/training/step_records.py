"""One record in metrics.jsonl per optimiser step, and checks of the gradients and the optimiser."""

import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.core.records import Json
from seccoderx_lite.models.adapters import adapter_parameters
from seccoderx_lite.models.distributed import (
    combine_step_values,
    gather_values,
)
from seccoderx_lite.run import stopping
from seccoderx_lite.run.folder import STEP_FILES, RunFolder
from seccoderx_lite.run.progress import Progress
from seccoderx_lite.training.divergence import DivergenceGuard
from seccoderx_lite.training.role_proofs import check_optimizer


class PhaseClock:
    """Measures the seconds of each phase of the current optimiser step."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._mark = time.perf_counter()

    def start(self) -> None:
        self._seconds = {}
        self._mark = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Add the time since the last call to a phase."""
        now = time.perf_counter()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._mark
        self._mark = now

    def has(self, phase: str) -> bool:
        return phase in self._seconds

    def read(self) -> dict[str, float]:
        """Return the seconds of each phase, and their sum as `step`."""
        return {**self._seconds, "step": sum(self._seconds.values())}


def peak_memory_bytes() -> int:
    """Return the peak GPU memory; without a GPU, this process's peak resident memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


SAVE_SECONDS = 600.0
"""A checkpoint is saved after a step when the last one is older than this."""


class StepRecorder(TrainerCallback):
    """Writes one metrics record per step, and stops a run that would train the wrong weights."""

    def __init__(
        self,
        stage: str,
        folder: RunFolder,
        progress: Progress,
        clock: PhaseClock,
        step_values: Callable[[int], Mapping[str, Json]] = lambda step: {},
    ) -> None:
        self._stage = stage
        self._folder = folder
        self._progress = progress
        self._clock = clock
        self._step_values = step_values
        self._guard = DivergenceGuard(stage)
        self._saved_at = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the optimiser's parameters, and drop the records past the checkpoint."""
        check_optimizer(kwargs["optimizer"], kwargs["model"])
        _drop_records_after(self._folder, self._stage, state.global_step)
        self._saved_at = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._clock.start()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            _check_gradients(kwargs["model"])
        self._guard.check_gradients(args, state.global_step + 1, kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End after this step if a signal asked for it, in all processes alike."""
        self._clock.lap("update")
        self._guard.check_weights(args, state.global_step, kwargs["model"])
        if any(gather_values(stopping.is_requested())):
            control.should_save = control.should_training_stop = True
        if any(gather_values(time.monotonic() - self._saved_at > SAVE_SECONDS)):
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Append the step's record and report it."""
        logs = kwargs.get("logs") or {}
        if "loss" not in logs:  # TRL also logs a summary at the end of training
            return
        record: dict[str, Json] = {"stage": self._stage, "step": state.global_step}
        record |= {_KEPT_LOGS[key]: value for key, value in logs.items() if key in _KEPT_LOGS}
        record |= combine_step_values(gather_values(self._step_values(state.global_step)))
        if record.get("trained_on") == "verdict":  # one trained token per example
            record["verdict_accuracy"] = record.pop("token_accuracy", None)
        record["seconds"] = {name: round(s, 4) for name, s in self._clock.read().items()}
        if tokens := record.pop("completion_tokens", None):
            sampling = record["seconds"].get("rollout", record["seconds"]["step"])
            record["tokens_per_s"] = round(tokens / max(sampling, 1e-9), 1)
        record["peak_memory_bytes"] = peak_memory_bytes()
        self._folder.append_jsonl("metrics.jsonl", record)
        self._progress(self._stage, state.global_step, state.max_steps, record)
        self._guard.check_values(args, state.global_step, record)


_SAME_NAME = ("loss", "grad_norm", "learning_rate", "reward", "reward_std", "kl", "entropy")
_KEPT_LOGS = {
    **{name: name for name in _SAME_NAME},
    "frac_reward_zero_std": "zero_variance_share",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated_share",
    "mean_token_accuracy": "token_accuracy",
    "sampling/sampling_logp_difference/mean": "sampling_logprob_gap",
}
"""TRL's names of what is recorded, and the names in metrics.jsonl."""


def _drop_records_after(folder: RunFolder, stage: str, step: int) -> None:
    for name in STEP_FILES:
        folder.truncate_jsonl(
            name, lambda row: row.get("stage") != stage or row.get("step", 0) <= step
        )


def _check_gradients(model: Any) -> None:
    trained = {id(parameter) for parameter in adapter_parameters(model, "trained").values()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and id(parameter) not in trained:
            raise ModelError(f"gradient: {name} has one but is not part of the trained adapter")
        if id(parameter) in trained and parameter.grad is None:
            raise ModelError(f"gradient: {name} has none but is part of the trained adapter")
