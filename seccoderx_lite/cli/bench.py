"""Time and memory of one GRPO step, phase by phase, against two other layouts of the same recipe.

    shared       this toolkit: one base for all roles, equal prompts read and equal completions
                 judged once, nothing computed for completions that have ended, and, where the
                 judge is not on the CPU, tests run while it answers
    two models   what is easily written with TRL alone: the judge is a second copy of the base, it
                 reasons about every completion, tests run one by one afterwards, and generation is
                 plain
    no judge     the same step without a judge: the limit

Every layout runs in a process of its own, in alternating order, on the same tasks and seed. The
learning rate is next to nothing, so that all of them sample from the same policy.
"""

import logging
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.recipe.recipe import Recipe, check_recipe
from seccoderx_lite.rewards.answers import ScoredCompletion, parse_answer
from seccoderx_lite.rewards.scorer import Scorer, code_to_judge
from seccoderx_lite.rewards.unit_tests import submit_tests, wait_for
from seccoderx_lite.run.folder import default_run_folder

LAYOUTS = ("shared", "two models", "no judge")
PHASES = ("rollout", "reference", "judge", "tests", "update", "step")

_UNMOVED = 1e-12
"""Learning rate that leaves the policy of all layouts the same."""


class OneByOneScorer(Scorer):
    """Scores as is easily written: every completion judged anew with reasoning, then its tests."""

    def score(
        self,
        tasks: Sequence[Task],
        completions: Sequence[str],
        on_judged: Callable[[], None] = lambda: None,
    ) -> list[ScoredCompletion]:
        """Return one scored completion each, in order; nothing is shared and nothing overlaps."""
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


def bench(
    recipe: Recipe,
    judge_adapter: Path | None = None,
    *,
    steps: int = 4,
    rounds: int = 2,
    on_layout: Callable[[str, int, int], None] = lambda layout, done, total: None,
) -> dict[str, Json]:
    """Measure the layouts and return, for each, median seconds by phase, tokens/s and peak memory.

    Args:
        recipe: A recipe with a policy.
        judge_adapter: The trained judge; None takes that of the recipe or of its run folder.
        steps: GRPO steps a run; the first one warms up and is not counted.
        rounds: Runs of each layout.
        on_layout: Told (layout, runs done, runs in all) before each run.

    Raises:
        RecipeError: the recipe has no policy, there is no trained judge, or fewer than two steps
            are asked for.
    """
    if recipe.policy is None:
        raise RecipeError("bench: the recipe has no policy section, so there is no step to measure")
    if steps < 2:
        raise RecipeError(
            f"bench: steps must be at least 2, since the first warms up (got {steps})"
        )
    judge_adapter = judge_adapter or _trained_judge(recipe)
    records: dict[str, list[dict[str, Json]]] = {layout: [] for layout in LAYOUTS}
    order = [
        layout for number in range(rounds) for layout in (LAYOUTS[::-1] if number % 2 else LAYOUTS)
    ]
    spawn = multiprocessing.get_context("spawn")
    for number, layout in enumerate(order):
        on_layout(layout, number, len(order))
        document = recipe_of(layout, recipe, judge_adapter, steps).model_dump(mode="json")
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            records[layout] += process.submit(_steps_of, layout, document).result()
    layouts = {layout: _summary(rows) for layout, rows in records.items()}
    shared, limit = layouts["shared"], layouts["no judge"]
    grpo = recipe.policy.grpo
    return {
        "layouts": layouts,
        "rollouts": grpo.group_size * grpo.prompts_per_step,
        "judge_share": shared["seconds"]["judge"] / shared["seconds"]["step"],
        "speed_against_two_models": layouts["two models"]["seconds"]["step"]
        / shared["seconds"]["step"],
        "memory_against_no_judge": shared["peak_memory_bytes"] / limit["peak_memory_bytes"],
    }


def _trained_judge(recipe: Recipe) -> Path:
    named = recipe.judge.adapter if recipe.judge else None
    adapter = Path(named) if named else default_run_folder(recipe) / "judge" / "adapter"
    if not adapter.is_dir():
        raise RecipeError(
            f"bench: there is no trained judge at {adapter}; train it first (seccoderx-lite train "
            "RECIPE --stage cold_start --stage align), or name one with --judge"
        )
    return adapter


def recipe_of(layout: str, recipe: Recipe, judge_adapter: Path, steps: int) -> Recipe:
    """Return the recipe that runs `steps` policy steps in a layout."""
    document = recipe.model_dump(mode="json")
    document |= {"evaluate": None, "export": None, "report_to": []}
    document["policy"]["grpo"] |= {"steps": steps, "learning_rate": _UNMOVED}
    document["policy"]["alarms"]["action"] = "warn"
    judge = document["judge"] or {}
    judge |= {"adapter": str(judge_adapter), "cold_start": None, "align": None, "endpoint": None,
              "cache": None}  # fmt: skip
    if layout == "two models":
        judge |= {"base": judge.get("base") or document["model"]["base"], "verdict": "reason"}
        document["model"]["fast_generation"] = False
    document["judge"] = judge
    if layout == "no judge":
        document["policy"]["reward"] |= {"judge": False, "graded_verdict": False}
    return check_recipe(document, f"bench, {layout}")


def _steps_of(layout: str, document: Mapping[str, Any]) -> list[dict[str, Json]]:
    """Run a layout's policy steps and return their records without the first."""
    from seccoderx_lite.models.backends import use_backend

    recipe = check_recipe(document, layout)
    use_backend(recipe.model)
    from seccoderx_lite.models.base import load_base
    from seccoderx_lite.run.folder import RunFolder
    from seccoderx_lite.run.open_sandbox import open_sandbox
    from seccoderx_lite.stages import policy_training

    logging.disable(logging.WARNING)  # the same for every layout and run
    with (
        tempfile.TemporaryDirectory() as place,
        open_sandbox(recipe.sandbox) as sandbox,
        RunFolder.open(Path(place) / "run", recipe) as folder,
    ):
        base = load_base(recipe.model)
        scorer = OneByOneScorer if layout == "two models" else Scorer
        policy_training.run(recipe, folder, base, sandbox, make_scorer=scorer)
        return list(folder.read_jsonl("metrics.jsonl"))[1:]


def _summary(rows: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    return {
        "seconds": {
            phase: statistics.median(row["seconds"].get(phase, 0.0) for row in rows)
            for phase in PHASES
        },
        "tokens_per_s": statistics.median(row["tokens_per_s"] for row in rows),
        "peak_memory_bytes": max(row["peak_memory_bytes"] for row in rows),
    }


def table(result: Mapping[str, Json]) -> Iterator[str]:
    """Yield the lines of a table: a row a phase, a column a layout."""
    layouts = result["layouts"]
    yield f"{'seconds a step':<16}" + "".join(f"{layout:>12}" for layout in LAYOUTS)
    for phase in PHASES:
        cells = (layouts[layout]["seconds"][phase] for layout in LAYOUTS)
        yield f"{phase:<16}" + "".join(f"{seconds:>12.2f}" for seconds in cells)
    speeds = (layouts[layout]["tokens_per_s"] for layout in LAYOUTS)
    yield f"{'tokens/s':<16}" + "".join(f"{speed:>12.0f}" for speed in speeds)
    peaks = (layouts[layout]["peak_memory_bytes"] / 2**30 for layout in LAYOUTS)
    yield f"{'peak GiB':<16}" + "".join(f"{peak:>12.2f}" for peak in peaks)
    yield _rollout_cost(layouts["shared"]["seconds"], result["rollouts"])
    yield (
        f"judge {result['judge_share']:.0%} of a step; "
        f"{result['speed_against_two_models']:.2f}x as fast as two models; "
        f"{result['memory_against_no_judge']:.2f}x the memory of no judge"
    )


def _rollout_cost(seconds: Mapping[str, float], rollouts: int) -> str:
    """What one rollout costs, the dearest phase first: that one limits the step."""
    parts = sorted((seconds[phase], phase) for phase in PHASES if phase != "step")
    told = ", ".join(f"{phase} {1000 * cost / rollouts:.1f}" for cost, phase in reversed(parts))
    whole = 1000 * seconds["step"] / rollouts
    return f"a step is {rollouts} rollouts of {whole:.1f} ms each: {told}"
