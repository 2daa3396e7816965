"""How a run resumes: a trainer continues from its newest complete checkpoint.

Of the weights a checkpoint holds the trained adapter alone. `step_records` drops the records in
`metrics.jsonl` past it, so that the file reads as if the run had never been interrupted. Which
stages still have to run is decided in `stages.stages_to_run`.
"""

import functools
import json
import logging
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PrinterCallback

from seccoderx_lite.core.errors import ModelError, RunInterrupted, reason_of
from seccoderx_lite.models.adapter_files import check_adapter
from seccoderx_lite.models.distributed import is_first_process, wait_for_all
from seccoderx_lite.training.out_of_memory import train_within_memory
from seccoderx_lite.training.trackers import finish_stage

logger = logging.getLogger(__name__)


_STATE = "trainer_state.json"
_ARCHIVES = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, and delete those that are not, with a warning.

    Without its optimiser or random state a stage would go on, but not as if never interrupted.
    """
    found: list[tuple[int, Path]] = []
    for checkpoint in sorted(folder.glob("checkpoint-*")):
        try:
            found.append((_step_of(checkpoint), checkpoint))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            _discard(checkpoint, reason_of(error))
    for _, checkpoint in sorted(found, reverse=True):
        if (fault := _fault(checkpoint)) is None:
            return checkpoint
        _discard(checkpoint, fault)
    return None


def _step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint; the trainer writes this file last."""
    return int(json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))["global_step"])


def _fault(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, None for a whole one."""
    try:
        check_adapter(checkpoint, "checkpoint")
        for pattern in _ARCHIVES:
            archives = list(checkpoint.glob(pattern))
            if not archives:
                return f"{pattern} is missing"
            for archive in archives:
                with zipfile.ZipFile(archive) as file:
                    if file.testzip() is not None:
                        return f"{archive.name} is damaged"
    except (ModelError, OSError, zipfile.BadZipFile) as error:
        return reason_of(error)
    return None


def _discard(checkpoint: Path, fault: str) -> None:
    logger.warning(
        "the checkpoint %s is not whole (%s): going back to the one before", checkpoint, fault
    )
    shutil.rmtree(checkpoint)


def train(
    trainer: Any, checkpoints: Path, has_ended_early: Callable[[], bool] = lambda: False
) -> None:
    """Run a trainer from its newest complete checkpoint, or from the start.

    `has_ended_early` says whether a callback, and no signal, ended training before its last step.

    Raises:
        ModelError: memory ran out, and smaller micro-batches could not help.
        RunInterrupted: a signal ended training after a step, whose checkpoint is saved.
    """
    trainer.model.save_pretrained = functools.partial(
        trainer.model.save_pretrained, selected_adapters=["default"]
    )
    trainer.remove_callback(PrinterCallback)
    if is_first_process():
        latest_checkpoint(checkpoints)  # deletes incomplete ones before other processes look
    wait_for_all()
    checkpoint = latest_checkpoint(checkpoints)
    if checkpoint:
        logger.info("resuming from %s", checkpoint.name)
    train_within_memory(trainer, checkpoint)
    finish_stage(trainer.args.report_to)
    step, steps = trainer.state.global_step, trainer.args.max_steps
    if step < steps and not has_ended_early():
        stage = checkpoints.parent.name
        raise RunInterrupted(
            f"interrupted after {stage} step {step} of {steps}; a checkpoint is saved"
        )
