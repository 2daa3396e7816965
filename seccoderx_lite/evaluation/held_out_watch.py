"""When held-out tasks are measured during training, and what follows from the measurements."""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from seccoderx_lite.core.records import Json
from seccoderx_lite.evaluation.held_out import (
    HeldOutTasks,
    Measurement,
    best_step,
    gains_no_more,
    measurements_of,
)
from seccoderx_lite.models.distributed import (
    gather_values,
    is_first_process,
    process_count,
    process_rank,
)
from seccoderx_lite.recipe.recipe import HeldOutRecipe, Recipe
from seccoderx_lite.run.folder import RunFolder

logger = logging.getLogger(__name__)

HELD_OUT = "held_out.jsonl"


class HeldOutWatch(TrainerCallback):
    """Measures the held-out tasks every few steps, saves what may be the best adapter, ends early.

    Its state is in `held_out.jsonl`, of which a resumed run keeps what belongs to its checkpoint.
    """

    def __init__(
        self,
        tasks: HeldOutTasks,
        recipe: Recipe,
        folder: RunFolder,
        save: Callable[[Path], None],
        lap: Callable[[], None],
    ) -> None:
        """Prepare to measure; `save` writes the adapter, `lap` ends the measurement's time."""
        assert recipe.policy is not None and recipe.policy.measures is not None
        self._tasks = tasks
        self._settings: HeldOutRecipe = recipe.policy.measures
        self._keeps_best = recipe.policy.keep == "best"
        self._seed = recipe.seed
        self._folder = folder
        self._save = save
        self._lap = lap
        self._measured: list[Measurement] = []
        self.has_ended_early = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read the measurements up to the checkpoint; measure if the one that is due is missing."""
        self._measured = measurements_of(gather_values(self._records(state.global_step))[0])
        if self._is_due(state) and not self._has(state.global_step):
            self._measure(state.global_step)
            row = {"stage": "policy", "step": state.global_step}
            self._folder.append_jsonl("metrics.jsonl", {**row, **self.step_values(row["step"])})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure if it is due; end training if the measurements gain no more."""
        if not self._is_due(state):
            return
        self._measure(state.global_step)
        self._lap()
        if gains_no_more(self._measured, self._settings, self._seed):
            logger.warning(
                "step %d: training ends here: the last %d measurements on held-out tasks gained "
                "less than %g of ESR, by the upper end of the 95%% interval",
                state.global_step,
                self._settings.window,
                self._settings.min_gain,
            )
            self.has_ended_early = True
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Delete the adapters that a run resumed from this checkpoint cannot need."""
        if is_first_process():
            best = self.best_step()
            for folder in self._folder.policy_candidates.glob("step-*"):
                if folder != self._candidate(best):
                    shutil.rmtree(folder)

    def step_values(self, step: int) -> Mapping[str, Json]:
        """Return what was measured after a step; nothing if it was not."""
        found = [one for one in self._measured if one.step == step]
        return found[-1].as_metrics() if found else {}

    def best_step(self) -> int | None:
        """Return the step that `policy.keep: best` keeps; None if nothing could be scored."""
        return best_step(self._measured, self._settings.max_functional_drop)

    def keep_best(self, target: Path) -> int | None:
        """Put the best adapter into a folder; return its step, None if there is none."""
        best = self.best_step()
        if best is None:
            logger.warning("policy.keep: no held-out task could be scored; the last policy is kept")
            return None
        if best == 0:
            logger.warning(
                "policy.keep: no checkpoint has a better ESR on held-out tasks than the start of "
                "training without losing function; the policy of the start is kept"
            )
        if is_first_process():
            shutil.copytree(self._candidate(best), target, dirs_exist_ok=True)
        return best

    def _records(self, step: int) -> list[dict[str, Json]]:
        return [row for row in self._folder.read_jsonl(HELD_OUT) if row["step"] <= step]

    def _is_due(self, state: Any) -> bool:
        step: int = state.global_step
        return step % self._settings.every == 0 or step == int(state.max_steps)

    def _has(self, step: int) -> bool:
        return any(one.step == step for one in self._measured)

    def _candidate(self, step: int | None) -> Path:
        return self._folder.policy_candidates / f"step-{step}"

    def _measure(self, step: int) -> None:
        share = slice(process_rank(), None, process_count())
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):  # training goes on as if nothing had been sampled
            torch.manual_seed(self._seed)
            own = self._tasks.solve(step, share)
        rows = [row for rows in gather_values(own) for row in rows]
        for row in rows:
            self._folder.append_jsonl(HELD_OUT, row)
        self._measured += measurements_of(rows)
        if self._keeps_best and self.best_step() == step:
            self._save(self._candidate(step))
