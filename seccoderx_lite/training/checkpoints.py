"""How a run resumes: a trainer continues from its newest complete checkpoint.

Of the weights a checkpoint holds the trained adapter alone. `step_records` drops the records in
`metrics.jsonl` past it, so that the file reads as if the run had never been interrupted. Which
stages still have to run is decided in `stages.resuming`.
"""

import functools
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PrinterCallback

from seccoderx_lite.core.errors import RunInterrupted
from seccoderx_lite.models.distributed import is_first_process, wait_for_all
from seccoderx_lite.training.out_of_memory import train_within_memory
from seccoderx_lite.training.trackers import finish_stage

logger = logging.getLogger(__name__)


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint, and delete incomplete ones.

    The trainer writes its state file last: without a readable one a checkpoint is incomplete.
    """
    complete: list[tuple[int, Path]] = []
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            step = int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])
        except (OSError, ValueError, KeyError):
            shutil.rmtree(checkpoint)
            continue
        complete.append((step, checkpoint))
    return max(complete)[1] if complete else None


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
