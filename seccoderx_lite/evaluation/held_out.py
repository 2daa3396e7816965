"""Held-out tasks, measured by their tests while the policy trains: the curve, and what to keep.

The reward can rise while the policy gets worse: a judge can be fooled. So every few steps the same
held-out tasks are solved and tested, never judged, with the same random numbers each time.
"""

import logging
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json, Task, TestResult
from seccoderx_lite.data.loading import each_source, load_tasks
from seccoderx_lite.evaluation.metrics import (
    SampleScore,
    TaskScores,
    paired_difference,
    score_sample,
)
from seccoderx_lite.models.generation import TextGenerator
from seccoderx_lite.recipe.recipe import HeldOutRecipe, PolicyRecipe
from seccoderx_lite.rewards.unit_tests import measured_code, run_tests
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.sandbox.planning import groups_of

logger = logging.getLogger(__name__)

MOST_TAKEN = 5
"""Without a source of their own, held-out tasks are at most one in this many training tasks."""


def hold_out(
    policy: PolicyRecipe, training: Sequence[Task], seed: int
) -> tuple[list[Task], list[Task]]:
    """Return the tasks to measure on and the tasks to train on, which have no prompt in common.

    Raises:
        DataError: there are no held-out tasks with tests, or none with security tests although
            the best ESR decides.
    """
    settings = policy.measures
    if settings is None:
        return [], list(training)
    source = settings.tasks or policy.sources
    others = _other_tasks(settings.tasks or policy.tasks, bool(settings.tasks))
    is_taken = not others and settings.tasks is None
    usable = [task for task in (training if is_taken else others) if _groups(task)]
    most = min(settings.count, len(training) // MOST_TAKEN) if is_taken else settings.count
    chosen = _drawn(usable, min(most, len(usable)), random.Random(seed))
    _require_tests(chosen, source, policy, is_taken=is_taken)
    prompts = {task.prompt for task in chosen}
    kept = [task for task in training if task.prompt not in prompts]
    if not kept:
        raise DataError(
            f"policy.held_out.tasks: {source} has all training tasks, so none would be trained on; "
            "give another source, or lower policy.held_out.count"
        )
    if len(kept) < len(training):
        logger.info(
            "policy.held_out: %d of %d training tasks are held out and not trained on",
            len(training) - len(kept),
            len(training),
        )
    return chosen, kept


def _drawn(tasks: Sequence[Task], count: int, rng: random.Random) -> list[Task]:
    """Draw tasks with and without security tests in proportion, at least one with them."""
    secure = [task for task in tasks if "security" in _groups(task)]
    plain = [task for task in tasks if "security" not in _groups(task)]
    share = round(count * len(secure) / len(tasks)) if tasks else 0
    attacked = min(count, len(secure), max(share, count - len(plain), 1))
    return rng.sample(secure, attacked) + rng.sample(plain, count - attacked)


def _other_tasks(sources: str | list[str], is_own: bool) -> list[Task]:
    """The tasks of the sources that are not for training; none if only training tasks are there."""
    tasks = [task for source in each_source(sources) for task in load_tasks(source)]
    validation = [task for task in tasks if task.extra.get("split") == "validation"]
    if validation or not is_own:
        return validation
    return [task for task in tasks if task.extra.get("split") != "train"]


def _groups(task: Task) -> set[str]:
    """The groups of tests that can measure a task; empty if there are no functional ones."""
    try:
        groups = groups_of(task.tests, task.language) if task.tests else set()
    except DataError as error:
        logger.warning("task %s cannot be held out: %s", task.id, error)
        return set()
    return set(groups) if "functionality" in groups else set()


def _require_tests(
    chosen: Sequence[Task], source: str, policy: PolicyRecipe, *, is_taken: bool
) -> None:
    if not chosen and is_taken:
        raise DataError(
            f"policy.held_out: {source} has no split validation, and too few tasks with functional "
            f"tests to hold any out (one in {MOST_TAKEN} at most); give tasks with tests in "
            "policy.held_out.tasks"
        )
    if not chosen:
        raise DataError(
            f"policy.held_out.tasks: {source} has no tasks with functional tests outside the split "
            "train; give a source that has"
        )
    decides = policy.keep == "best" or (policy.measures and policy.measures.min_gain is not None)
    if decides and not any("security" in _groups(task) for task in chosen):
        raise DataError(
            f"policy.held_out: none of the {len(chosen)} held-out tasks of {source} has security "
            "tests, so they have no ESR; give others in policy.held_out.tasks, or set "
            "policy.keep: last and no policy.held_out.min_gain"
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """The scores of all held-out tasks after a step."""

    step: int
    tasks: tuple[TaskScores, ...]

    @property
    def esr(self) -> float | None:
        """Mean ESR over the tasks with security tests; None if nothing could be scored."""
        return _mean([task.mean("esr") for task in self.tasks])

    @property
    def functional(self) -> float | None:
        """Mean share of functional tests passed, over all tasks."""
        return _mean([task.mean("functional") for task in self.tasks])

    def as_metrics(self) -> dict[str, Json]:
        """Return what is recorded in metrics.jsonl."""
        samples = [sample for task in self.tasks for sample in task.samples]
        return {
            "held_out_esr": self.esr,
            "held_out_functional": self.functional,
            "held_out_secure": _mean([task.mean("secure") for task in self.tasks]),
            "held_out_unscored": samples.count(None),
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def best_step(measurements: Sequence[Measurement], max_functional_drop: float) -> int | None:
    """Return the step with the best ESR whose functional rate is not too far below the first one's.

    Of equal ones, the one with the better functional rate, then the later one. None if nothing
    could be scored.
    """
    scored = [m for m in measurements if m.esr is not None and m.functional is not None]
    if not scored:
        return None
    least = (scored[0].functional or 0.0) - max_functional_drop - 1e-9
    return max(
        (m for m in scored if (m.functional or 0.0) >= least),
        key=lambda m: (m.esr or 0.0, m.functional or 0.0, m.step),
    ).step


def gains_no_more(measurements: Sequence[Measurement], settings: HeldOutRecipe, seed: int) -> bool:
    """Return whether the last `window` measurements gained less than `min_gain` on those before.

    The samples of a window are pooled by task, and the 95% interval of the difference, paired by
    task, has to end below `min_gain`. The measurement before training is not one of them.
    """
    trained = [one for one in measurements if one.step > 0]
    if settings.min_gain is None or len(trained) < 2 * settings.window:
        return False
    recent = trained[-2 * settings.window :]
    earlier, later = _pooled(recent[: settings.window]), _pooled(recent[settings.window :])
    try:
        gain = paired_difference(earlier, later, "esr", seed)
    except ValueError:  # nothing was scored in one of the two
        return False
    return gain.interval_95 is not None and gain.interval_95[1] < settings.min_gain


def _pooled(measurements: Sequence[Measurement]) -> list[TaskScores]:
    samples: dict[str, tuple[SampleScore | None, ...]] = {}
    for task in (task for measurement in measurements for task in measurement.tasks):
        samples[task.id] = (*samples.get(task.id, ()), *task.samples)
    return [TaskScores(name, (), each) for name, each in samples.items()]


@dataclass(frozen=True, slots=True)
class HeldOutTasks:
    """The held-out tasks, and what solves and tests them."""

    tasks: tuple[Task, ...]
    generator: TextGenerator
    sandbox: Sandbox
    samples: int
    max_new_tokens: int
    temperature: float

    def solve(self, step: int, share: slice = slice(None)) -> list[dict[str, Json]]:
        """Return one record per completion of a share of the tasks, with its test scores."""
        asked = [task for task in self.tasks[share] for _ in range(self.samples)]
        texts = self.generator.generate(
            [task.prompt for task in asked],
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
        )
        codes = [
            None if text is None else measured_code(task, text).code
            for task, text in zip(asked, texts, strict=True)
        ]
        results = run_tests(self.sandbox, asked, codes)
        return [
            {
                "stage": "policy",
                "step": step,
                "task": task.id,
                "completion": text,
                "tests": result.status if result else None,
                **asdict(_score(task, text, code, result) or SampleScore(None, None)),
            }
            for task, text, code, result in zip(asked, texts, codes, results, strict=True)
        ]


def _score(
    task: Task, text: str | None, code: str | None, result: TestResult | None
) -> SampleScore | None:
    """The score of a completion; None if it could not be generated or tested."""
    is_benign = "security" not in _groups(task)
    if text is None or result is None:
        return None
    if code is None:
        return SampleScore(0.0, None if is_benign else 0.0)
    return score_sample(result, is_benign)


def measurements_of(rows: Sequence[dict[str, Json]]) -> list[Measurement]:
    """Return the measurements in the records of `HeldOutTasks.solve`, in order of their steps."""
    by_step: dict[int, dict[str, list[SampleScore | None]]] = {}
    for row in rows:
        scored = row["functional"] is not None
        sample = SampleScore(row["functional"], row["secure"]) if scored else None
        by_step.setdefault(row["step"], {}).setdefault(row["task"], []).append(sample)
    return [
        Measurement(
            step, tuple(TaskScores(name, (), tuple(samples)) for name, samples in tasks.items())
        )
        for step, tasks in sorted(by_step.items())
    ]
