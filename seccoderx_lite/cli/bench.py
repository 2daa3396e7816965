"""The `bench` command: time and memory of one GRPO step per phase, in three layouts of one recipe.

    shared       this toolkit: one base for all roles, equal prompts computed and equal completions
                 judged once, finished completions not computed further, and, unless the judge is on
                 the CPU, tests running while it answers
    two models   the layout you would write with plain TRL: the judge is a second copy of the base
                 and reasons about every completion, tests run one by one afterwards, and
                 generation is that of transformers
    no judge     the same step without a judge: the lower limit

Each run has its own process, on the same tasks and seed, and the layouts alternate. The learning
rate is almost zero, so that all layouts sample from the same policy.
"""

import logging
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
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

_NO_LEARNING = 1e-12
"""Learning rate with which the policy stays the same in all layouts."""


@dataclass(frozen=True, slots=True)
class LayoutFigures:
    """What one layout takes, over the steps of all its runs."""

    seconds: dict[str, float]
    """Median seconds per phase of a step."""
    tokens_per_s: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The figures of all layouts, and comparisons between them."""

    layouts: dict[str, LayoutFigures]
    rollouts: int
    """Per step."""

    def as_json(self) -> dict[str, Json]:
        """Return the figures and the comparisons."""
        return asdict(self) | {
            "judge_share": self.judge_share,
            "speed_against_two_models": self.speed_against_two_models,
            "memory_against_no_judge": self.memory_against_no_judge,
        }

    @property
    def judge_share(self) -> float:
        seconds = self.layouts["shared"].seconds
        return seconds["judge"] / seconds["step"]

    @property
    def speed_against_two_models(self) -> float:
        two_models, shared = self.layouts["two models"], self.layouts["shared"]
        return two_models.seconds["step"] / shared.seconds["step"]

    @property
    def memory_against_no_judge(self) -> float:
        shared, limit = self.layouts["shared"], self.layouts["no judge"]
        return shared.peak_memory_bytes / limit.peak_memory_bytes


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


def bench(
    recipe: Recipe,
    judge_adapter: Path | None = None,
    *,
    steps: int = 4,
    rounds: int = 2,
    on_layout: Callable[[str, int, int], None] = lambda layout, done, total: None,
) -> BenchResult:
    """Measure the layouts.

    Args:
        recipe: A recipe with a policy.
        judge_adapter: The trained judge (default: that of the recipe or of its run folder).
        steps: GRPO steps per run; the first is a warm-up and not counted.
        rounds: Runs per layout.
        on_layout: Called with (layout, runs done, runs in all) before each run.

    Raises:
        RecipeError: the recipe has no policy, there is no trained judge, or `steps` is below 2.
    """
    if recipe.policy is None:
        raise RecipeError("bench: the recipe has no policy section, so there is no step to measure")
    if steps < 2:
        raise RecipeError(
            f"--steps: must be at least 2, because the first is a warm-up (got {steps})"
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
    grpo = recipe.policy.grpo
    layouts = {layout: _figures(rows) for layout, rows in records.items()}
    return BenchResult(layouts, grpo.group_size * grpo.prompts_per_step)


def _trained_judge(recipe: Recipe) -> Path:
    named = recipe.judge.adapter if recipe.judge else None
    adapter = Path(named) if named else default_run_folder(recipe) / "judge" / "adapter"
    if not adapter.is_dir():
        raise RecipeError(
            f"bench: no trained judge at {adapter}; train one (seccoderx-lite train RECIPE "
            "--stage cold_start --stage align), or give one with --judge"
        )
    return adapter


def recipe_of(layout: str, recipe: Recipe, judge_adapter: Path, steps: int) -> Recipe:
    """Return the recipe that runs `steps` policy steps in a layout."""
    document = recipe.model_dump(mode="json")
    document |= {"evaluate": None, "export": None, "report_to": []}
    document["policy"]["grpo"] |= {"steps": steps, "learning_rate": _NO_LEARNING}
    document["policy"]["alarms"]["action"] = "warn"
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


def _steps_of(layout: str, document: Mapping[str, Any]) -> list[dict[str, Json]]:
    """Run a layout's policy steps and return their records, without the first."""
    from seccoderx_lite.models.backends import use_backend

    recipe = check_recipe(document, layout)
    use_backend(recipe.model)
    from seccoderx_lite.models.base import load_base
    from seccoderx_lite.run.folder import RunFolder
    from seccoderx_lite.run.open_sandbox import open_sandbox
    from seccoderx_lite.stages import policy_training

    logging.disable(logging.WARNING)  # for every layout alike
    with (
        tempfile.TemporaryDirectory() as place,
        open_sandbox(recipe.sandbox) as sandbox,
        RunFolder.open(Path(place) / "run", recipe) as folder,
    ):
        base = load_base(recipe.model)
        scorer = OneByOneScorer if layout == "two models" else Scorer
        policy_training.run(recipe, folder, base, sandbox, make_scorer=scorer)
        return list(folder.read_jsonl("metrics.jsonl"))[1:]


def _figures(rows: Sequence[Mapping[str, Json]]) -> LayoutFigures:
    return LayoutFigures(
        {
            phase: statistics.median(row["seconds"].get(phase, 0.0) for row in rows)
            for phase in PHASES
        },
        statistics.median(row["tokens_per_s"] for row in rows),
        max(row["peak_memory_bytes"] for row in rows),
    )


def table(result: BenchResult) -> Iterator[str]:
    """Yield the lines of a table: a row per phase, a column per layout."""
    layouts = [result.layouts[layout] for layout in LAYOUTS]
    yield _row("seconds per step", LAYOUTS)
    for phase in PHASES:
        yield _row(phase, [f"{layout.seconds[phase]:.2f}" for layout in layouts])
    yield _row("tokens/s", [f"{layout.tokens_per_s:.0f}" for layout in layouts])
    yield _row("peak GiB", [f"{layout.peak_memory_bytes / 2**30:.2f}" for layout in layouts])
    yield _rollout_cost(result.layouts["shared"].seconds, result.rollouts)
    yield (
        f"judge {result.judge_share:.0%} of a step; "
        f"{result.speed_against_two_models:.2f}x as fast as two models; "
        f"{result.memory_against_no_judge:.2f}x the memory of no judge"
    )


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<16}" + "".join(f"{cell:>12}" for cell in cells)


def _rollout_cost(seconds: Mapping[str, float], rollouts: int) -> str:
    """Return the time per rollout, slowest phase first: that one limits the step."""
    parts = sorted((seconds[phase], phase) for phase in PHASES if phase != "step")
    by_phase = ", ".join(f"{phase} {1000 * part / rollouts:.1f}" for part, phase in reversed(parts))
    whole = 1000 * seconds["step"] / rollouts
    return f"a step is {rollouts} rollouts of {whole:.1f} ms each: {by_phase}"
