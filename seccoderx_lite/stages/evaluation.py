"""Measure the base and the aligned policy alike, by executing the tests of held-out tasks.

The judge that rewarded the policy has no say here. Several completions a task are sampled at the
recipe's temperature (the headline) and one greedy completion beside them. Every completion with
its test result is a line of `answers.jsonl`; a resumed evaluation asks only for what is missing.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Literal

import torch

from seccoderx_lite.datasets import load_tasks
from seccoderx_lite.generation import generate_texts
from seccoderx_lite.metrics import (
    CODE_METRICS,
    CodeScores,
    TaskScores,
    paired_difference,
    score_sample,
    score_suite,
)
from seccoderx_lite.recipe import EvaluateRecipe, Recipe
from seccoderx_lite.records import Json, Task, TestResult
from seccoderx_lite.rewards.unit_tests import fail_all, submit_tests, wait_for
from seccoderx_lite.roles import Base, Role, acting_as, attach_adapter, detach_adapters
from seccoderx_lite.run_folder import RunFolder
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.training import Progress, no_progress

Phase = Literal["before", "after"]
ROLES: dict[Phase, Role] = {"before": "reference", "after": "policy"}
SUITE_SPLITS = ("held_out", "transfer", "benign")
"""Splits of a suite that are measured and reported apart; a suite without splits is one."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Tasks that are reported together."""

    name: str
    tasks: tuple[Task, ...]


def load_suites(settings: EvaluateRecipe) -> list[Suite]:
    """Return the suites of a recipe, each split of a suite apart."""
    suites = []
    for source in settings.suites:
        rows = load_tasks(source)
        for split in SUITE_SPLITS:
            tasks = [task for task in rows if task.extra.get("split") == split]
            if tasks:
                suites.append(Suite(f"{source}/{split}", tuple(tasks[: settings.limit])))
        if not any("split" in task.extra for task in rows):
            suites.append(Suite(source, tuple(rows[: settings.limit])))
    return suites


def run(
    recipe: Recipe,
    folder: RunFolder,
    base: Base,
    sandbox: Sandbox,
    progress: Progress = no_progress,
) -> dict[str, Json]:
    """Measure before and, where a policy adapter is there, after; write evaluation.json."""
    settings = recipe.evaluate or EvaluateRecipe(suites=["builtin:tiny"])
    temperature = settings.temperature or (recipe.policy.grpo.temperature if recipe.policy else 0.8)
    suites = load_suites(settings)
    phases: list[Phase] = ["before"]
    detach_adapters(base)
    if (folder.policy_adapter / "adapter_config.json").is_file():
        phases.append("after")
        attach_adapter(base, folder.policy_adapter, "policy")
    jobs = [
        Asking(phase, suite.name, task, sample)
        for phase in phases
        for suite in suites
        for task in suite.tasks
        for sample in _samples(settings)
    ]
    asked = _Asker(settings, temperature, folder, base, sandbox, progress).ask(jobs)
    detach_adapters(base)
    result = _summarise(phases, suites, asked, settings.seed)
    folder.write_json("evaluation.json", result)
    return result


def _samples(settings: EvaluateRecipe) -> list[int]:
    return [*range(settings.samples), *([GREEDY] if settings.greedy else [])]


GREEDY = -1
"""Sample number of the greedy completion."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One completion to ask for."""

    phase: Phase
    suite: str
    task: Task
    sample: int

    @property
    def key(self) -> tuple[Phase, str, str, int]:
        """What identifies its answer in answers.jsonl."""
        return self.phase, self.suite, self.task.id, self.sample


Results = dict[tuple[Phase, str, str, int], TestResult | None]


class _Asker:
    """Generates in batches; the tests of one batch run while the next is generated."""

    def __init__(
        self, settings: EvaluateRecipe, temperature: float, folder: RunFolder, base: Base,
        sandbox: Sandbox, progress: Progress,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._temperature = temperature
        self._folder = folder
        self._base = base
        self._sandbox = sandbox
        self._progress = progress
        self._results: Results = {}

    def ask(self, jobs: Sequence[Asking]) -> Results:
        """Return the test result of every job, from answers.jsonl where it is there already."""
        for row in self._folder.read_jsonl("answers.jsonl"):
            key = row["phase"], row["suite"], row["task"], row["sample"]
            self._results[key] = TestResult(**row["tests"]) if row["tests"] else None
        pending: list[tuple[Asking, str, Future[TestResult] | None]] = []
        total = len(jobs)
        for number, batch in enumerate(self._batches(jobs)):
            if all(job.key in self._results for job in batch):
                continue
            texts = self._generate(batch, self._settings.seed + number)
            runs = [
                submit_tests(self._sandbox, job.task, t)
                for job, t in zip(batch, texts, strict=True)
            ]
            self._record(pending)
            pending = list(zip(batch, texts, runs, strict=True))
            self._progress("evaluate", len(self._results), total, {"phase": batch[0].phase})
        self._record(pending)
        self._progress("evaluate", len(self._results), total, {})
        return self._results

    def _batches(self, jobs: Sequence[Asking]) -> Iterator[list[Asking]]:
        """Yield batches of one phase and one way of decoding, longest prompts first."""
        kinds: dict[tuple[Phase, bool], list[Asking]] = {}
        for job in jobs:
            kinds.setdefault((job.phase, job.sample == GREEDY), []).append(job)
        size = self._settings.batch_size
        for same in kinds.values():
            same.sort(key=lambda job: len(job.task.prompt), reverse=True)
            for start in range(0, len(same), size):
                yield same[start : start + size]

    def _generate(self, batch: Sequence[Asking], seed: int) -> list[str]:
        torch.manual_seed(seed)
        with acting_as(ROLES[batch[0].phase], self._base.model, self._base.tokenizer) as model:
            return generate_texts(
                model,
                self._base.tokenizer,
                [job.task.prompt for job in batch],
                max_new_tokens=self._settings.max_completion_tokens,
                temperature=0.0 if batch[0].sample == GREEDY else self._temperature,
                batch_size=len(batch),
            )

    def _record(self, answered: Sequence[tuple[Asking, str, "Future[TestResult] | None"]]) -> None:
        for job, text, run in answered:
            result = wait_for(run) if run else fail_all(self._sandbox, job.task)
            self._results[job.key] = result
            row: dict[str, Json] = {
                "phase": job.phase, "suite": job.suite, "task": job.task.id,
                "cwe": list(job.task.cwe), "sample": job.sample, "completion": text,
                "tests": _as_json(result),
            }  # fmt: skip
            self._folder.append_jsonl("answers.jsonl", row)


def _summarise(
    phases: Sequence[Phase], suites: Sequence[Suite], results: Results, seed: int
) -> dict[str, Json]:
    """Return what goes to evaluation.json: scores by phase and suite, and paired differences."""
    samples: dict[tuple[Phase, str, str, bool], list[TestResult | None]] = {}
    for (phase, suite_name, task_id, number), result in results.items():
        samples.setdefault((phase, suite_name, task_id, number == GREEDY), []).append(result)

    def scores_of(phase: Phase, suite: Suite, *, greedy: bool) -> list[TaskScores]:
        return [
            _task_scores(task, samples.get((phase, suite.name, task.id, greedy), []))
            for task in suite.tasks
        ]

    summary: dict[str, Json] = {}
    sampled: dict[tuple[Phase, str], list[TaskScores]] = {}
    for phase in phases:
        summary[phase] = {}
        for suite in suites:
            sampled[phase, suite.name] = scores_of(phase, suite, greedy=False)
            greedy = scores_of(phase, suite, greedy=True)
            summary[phase][suite.name] = {
                **_as_json_scores(_scores(sampled[phase, suite.name], seed)),
                "greedy": _as_json_scores(_scores(greedy, seed)) if greedy[0].samples else None,
            }
    if "after" in phases:
        summary["difference"] = {
            suite.name: _differences(
                sampled["before", suite.name], sampled["after", suite.name], seed
            )
            for suite in suites
        }
    return summary


def _task_scores(task: Task, results: Sequence[TestResult | None]) -> TaskScores:
    samples = [score_sample(r, is_benign=not task.cwe) if r else None for r in results]
    return TaskScores(task.id, task.cwe, tuple(samples))


def _scores(tasks: Sequence[TaskScores], seed: int) -> CodeScores:
    """Scores of the tasks with a security side, or of the benign ones where there are no others."""
    scores = score_suite(tasks, seed)
    return scores.security if scores.security.n else scores.benign


def _as_json_scores(scores: CodeScores) -> dict[str, Json]:
    return {
        "functional": scores.functional,
        "secure": scores.secure,
        "esr": scores.esr,
        "func_sec": scores.func_sec,
        "n": scores.n,
        "n_samples": scores.n_samples,
        "unscored": scores.unscored,
        "interval_95": {metric: list(bounds) for metric, bounds in scores.interval_95.items()},
        "per_cwe": {
            name: {"functional": of.functional, "secure": of.secure, "esr": of.esr, "n": of.n}
            for name, of in scores.per_cwe.items()
        },
    }


def _differences(
    before: Sequence[TaskScores], after: Sequence[TaskScores], seed: int
) -> dict[str, Json]:
    differences: dict[str, Json] = {}
    for metric in CODE_METRICS:
        try:
            change = paired_difference(before, after, metric, seed)
        except ValueError:  # nothing scored on both sides, or benign tasks: no such metric
            continue
        differences[metric] = {
            "mean": change.mean,
            "interval_95": change.interval_95,
            "n": change.n,
        }
    return differences


def _as_json(result: TestResult | None) -> Json:
    return {**asdict(result), "output": result.output[:500]} if result else None
