"""The `bench` command: time and memory of one GRPO step per phase, in three layouts of one recipe.

    shared       this toolkit: one base for all roles, equal prompts computed and equal completions
                 judged once, finished completions not computed further, and, unless the judge is on
                 the CPU, tests running while it answers
    two models   the layout you would write with plain TRL: the judge is a second copy of the base
                 and reasons about every completion, tests run one by one afterwards, and
                 generation is that of transformers
    no judge     the same step without a judge: the lower limit

Each run has its own process, on the same tasks and seed, and the layouts alternate. The learning
rate is almost zero, so that all layouts sample from the same policy. With random weights
(`bench_random`) nothing is downloaded and every text has its greatest length.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from seccoderx_lite.cli.bench_figures import LAYOUTS, BenchResult, LayoutFigures, figures_of
from seccoderx_lite.cli.bench_random import random_recipe
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Json
from seccoderx_lite.recipe.recipe import PolicyRecipe, Recipe, check_recipe
from seccoderx_lite.run.folder import RunFolder, default_run_folder

_NO_LEARNING = 1e-12
"""Learning rate with which the policy stays the same in all layouts."""


def bench(
    recipe: Recipe,
    judge: Path | None = None,
    *,
    random_shape: str | None = None,
    memory_bytes: int | None = None,
    steps: int = 4,
    rounds: int = 2,
    layouts: Sequence[str] = LAYOUTS,
    on_layout: Callable[[str, int, int], None] = lambda layout, done, total: None,
    on_figures: Callable[[BenchResult], None] = lambda result: None,
) -> BenchResult:
    """Measure the layouts.

    Args:
        recipe: A recipe with a policy.
        judge: Run folder or adapter of the trained judge (default: that of the recipe or of its run
            folder; random weights with `random_shape`).
        random_shape: Hub id, folder or config.json of a model to imitate with random weights.
        memory_bytes: GPU memory that a run may use (default: all).
        steps: GRPO steps per run; the first is a warm-up and not counted.
        rounds: Runs per layout.
        layouts: Those to measure.
        on_layout: Called with (layout, runs done, runs in all) before each run.
        on_figures: Called with the figures so far after each run.

    Raises:
        RecipeError: the recipe has no policy, there is no trained judge, or an argument is wrong.
    """
    grpo = _required_policy(recipe, steps, layouts).grpo
    figures: dict[str, LayoutFigures] = {}
    failed: dict[str, str] = {}
    result = BenchResult(
        figures, grpo.group_size * grpo.prompts_per_step, random_shape or recipe.model.base
    )
    with TemporaryDirectory(prefix="seccoderx-bench-") as place:
        if random_shape:
            recipe = random_recipe(recipe, random_shape, Path(place) / "shape")
        adapter = judge_adapter(recipe, judge, Path(place) if random_shape else None)
        order = _order(layouts, rounds)
        records: dict[str, list[dict[str, Json]]] = {layout: [] for layout in order}
        for number, layout in enumerate(order):
            on_layout(layout, number, len(order))
            run = Run(layout, recipe_of(layout, recipe, adapter, steps), memory_bytes)
            done = _in_own_process(run)
            if reason := done.get("failed"):
                failed[layout] = reason
            else:
                records[layout] += done["records"]
                figures[layout] = figures_of(records[layout], done["estimated_peak_bytes"])
            result = BenchResult(
                figures, result.rollouts, result.base, done["machine"], memory_bytes, failed
            )
            on_figures(result)
    return result


def _required_policy(recipe: Recipe, steps: int, layouts: Sequence[str]) -> PolicyRecipe:
    if recipe.policy is None:
        raise RecipeError("bench: the recipe has no policy section, so there is no step to measure")
    if steps < 2:
        raise RecipeError(
            f"--steps: must be at least 2, because the first is a warm-up (got {steps})"
        )
    if unknown := [name for name in layouts if name not in LAYOUTS]:
        raise RecipeError(f"--layout: must be one of {', '.join(LAYOUTS)} (got {unknown[0]!r})")
    return recipe.policy


def _order(layouts: Sequence[str], rounds: int) -> list[str]:
    return [
        layout for number in range(rounds) for layout in (layouts[::-1] if number % 2 else layouts)
    ]


def judge_adapter(recipe: Recipe, judge: Path | None, place: Path | None = None) -> Path:
    """Return the folder of the judge's adapter.

    Args:
        recipe: The recipe, which may name one.
        judge: A run folder or an adapter.
        place: Where an adapter with random weights may be made, if no other is named.

    Raises:
        RecipeError: there is no trained judge.
    """
    if judge and not (judge / "adapter_config.json").is_file():
        run = RunFolder.existing(judge)
        trained = run.recipe.judge.adapter if run.recipe.judge else None
        judge = Path(trained) if trained else run.judge_adapter
    if judge is None and place is not None:
        return place / "judge"
    named = recipe.judge.adapter if recipe.judge else None
    adapter = judge or (Path(named) if named else default_run_folder(recipe) / "judge" / "adapter")
    if not (adapter / "adapter_config.json").is_file():
        raise RecipeError(
            f"bench: no trained judge at {adapter}; train one (seccoderx-lite train RECIPE "
            "--stage cold_start --stage align), give one with --judge, or use --random"
        )
    return adapter


def recipe_of(layout: str, recipe: Recipe, judge_adapter: Path, steps: int) -> Recipe:
    """Return the recipe that runs `steps` policy steps in a layout."""
    document = recipe.model_dump(mode="json")
    document |= {"evaluate": None, "export": None, "report_to": []}
    document["policy"]["grpo"] |= {"steps": steps, "learning_rate": _NO_LEARNING}
    document["policy"]["alarms"]["action"] = "warn"
    document["policy"] |= {"check_tasks": 0, "held_out": None, "keep": "last"}
    judge = document["judge"] or {}
    judge |= dict.fromkeys(("cold_start", "align", "endpoint", "cache"))
    judge |= {"adapter": str(judge_adapter)}
    if layout == "two models":
        judge |= {"base": judge.get("base") or document["model"]["base"], "verdict": "reason"}
        document["model"]["fast_generation"] = False
    document["judge"] = judge
    if layout == "no judge":
        document["policy"]["reward"] |= {"judge": False, "graded_verdict": False}
    return check_recipe(document, f"bench, {layout}")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one layout."""

    layout: str
    recipe: Recipe
    memory_bytes: int | None


def _in_own_process(run: Run) -> dict[str, Json]:
    """Run a layout; return its `records`, or `failed` with the reason if memory ran out."""
    from seccoderx_lite.cli.bench_process import run_layout

    arguments = asdict(run) | {"recipe": run.recipe.model_dump(mode="json")}
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            return process.submit(run_layout, **arguments).result()
    except BrokenProcessPool:
        return {"failed": "its process was killed, as when main memory runs out", "machine": ""}
