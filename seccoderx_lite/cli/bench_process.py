"""One layout of `bench`, in a process of its own."""

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seccoderx_lite.cli.bench_random import scoring_references, with_longest_tasks
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.recipe.recipe import Recipe, check_recipe
from seccoderx_lite.rewards.answers import ScoredCompletion, parse_answer
from seccoderx_lite.rewards.scorer import Scorer, code_to_judge
from seccoderx_lite.rewards.unit_tests import submit_tests, wait_for
from seccoderx_lite.run.progress import Progress, note


class OneByOneScorer(Scorer):
    """The plain way: every completion is judged with reasoning, then tested, one after another."""

    def score(
        self,
        tasks: Sequence[Task],
        completions: Sequence[str],
        on_judged: Callable[[], None] = lambda: None,
    ) -> list[ScoredCompletion]:
        answers = [parse_answer(text, task) for task, text in zip(tasks, completions, strict=True)]
        items = [code_to_judge(task, answer) for task, answer in zip(tasks, answers, strict=True)]
        verdicts = self.judge.reasoned(items) if self.judge else [None] * len(items)
        on_judged()
        return [
            self.reward(
                task, answer, verdict, wait_for(submit_tests(self.sandbox, task, answer.code))
            )
            for task, answer, verdict in zip(tasks, answers, verdicts, strict=True)
        ]


def run_layout(layout: str, recipe: Mapping[str, Any], memory_bytes: int | None) -> dict[str, Json]:
    """Run a layout's policy steps; return `records` without the first, or `failed`.

    Both come with the `machine`, and on a GPU with `estimated_peak_bytes` of torch's tensors.
    """
    from seccoderx_lite.models.backends import use_backend

    checked = check_recipe(recipe, layout)
    use_backend(checked.model)
    import torch
    from transformers.utils import logging as transformers_logging

    from seccoderx_lite.training.out_of_memory import is_out_of_memory

    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)  # for every layout alike
    limit_memory(memory_bytes)
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    try:
        records, estimated = _steps_of(layout, checked)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {"failed": str(error).strip().splitlines()[0], "machine": machine}
    return {"records": records, "estimated_peak_bytes": estimated, "machine": machine}


def limit_memory(memory_bytes: int | None) -> None:
    """Let this process use only so much GPU memory, to imitate a smaller card.

    Raises:
        RecipeError: there is no GPU, or it has less memory.
    """
    if memory_bytes is None:
        return
    import torch

    if not torch.cuda.is_available():
        raise RecipeError("--memory: limits GPU memory, and this machine has no CUDA GPU")
    total = torch.cuda.get_device_properties(0).total_memory
    if memory_bytes > total:
        raise RecipeError(
            f"--memory: this GPU has {total / 2**30:.1f} GiB (got {memory_bytes / 2**30:g} GiB)"
        )
    torch.cuda.set_per_process_memory_fraction(memory_bytes / total)


def _steps_of(layout: str, recipe: Recipe) -> tuple[list[dict[str, Json]], int | None]:
    from seccoderx_lite.models.adapters import save_random_adapter
    from seccoderx_lite.models.base import load_base
    from seccoderx_lite.models.random_weights import is_random
    from seccoderx_lite.run.folder import RunFolder
    from seccoderx_lite.run.open_sandbox import open_sandbox
    from seccoderx_lite.stages import policy_training

    scorer = OneByOneScorer if layout == "two models" else Scorer
    with (
        tempfile.TemporaryDirectory() as place,
        open_sandbox(recipe.sandbox) as sandbox,
    ):
        progress = _print_progress(time.monotonic())
        note(progress, "policy", "loading the base")
        base = load_base(recipe.model)
        if is_random(recipe.model.base):
            context = int(base.model.config.max_position_embeddings)
            tasks = Path(place) / "tasks.jsonl"
            recipe = with_longest_tasks(recipe, base.tokenizer, context, tasks)
            scorer = scoring_references(scorer)
            judge = Path(str(recipe.judge.adapter)) if recipe.judge else None
            if judge and not judge.exists():
                save_random_adapter(base, recipe.model.lora, judge)
        with RunFolder.open(Path(place) / "run", recipe) as folder:
            policy_training.run(recipe, folder, base, sandbox, progress, scorer)
            return list(folder.read_jsonl("metrics.jsonl"))[1:], _estimated_peak(recipe)


def _print_progress(start: float) -> Progress:
    """Return a progress that prints the steps, and the seconds since `start`, to stderr."""

    def show(stage: str, step: int, total: int, values: Mapping[str, Json]) -> None:
        what = values.get("note") or f"step {step}/{total}"
        if not values.get("done"):
            print(f"  {time.monotonic() - start:.0f} s: {what}", file=sys.stderr, flush=True)

    return show


def _estimated_peak(recipe: Recipe) -> int | None:
    """Return what `estimate` expects torch to allocate at most on a GPU, None on a CPU."""
    import torch

    from seccoderx_lite.models.estimate import CUDA_BYTES, estimate, shapes_of

    if not torch.cuda.is_available():
        return None
    return estimate(recipe, shapes_of(recipe)).peak_bytes - CUDA_BYTES
