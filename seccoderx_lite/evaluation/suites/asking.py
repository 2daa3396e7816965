"""Completions of suites: asked for in batches, graded, kept, never asked for twice.

Every completion with its grade is a line of `answers.jsonl`; a resumed evaluation asks only for
what is missing, and `regrade` grades what is there anew without a model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Literal, TypeVar

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json
from seccoderx_lite.evaluation.metrics import SampleScore
from seccoderx_lite.evaluation.suites.grading import Grade, Grader, SuiteTask
from seccoderx_lite.evaluation.suites.loading import Suite, SuiteKind
from seccoderx_lite.models.generation import Generator
from seccoderx_lite.recipe.recipe import EvaluateRecipe
from seccoderx_lite.run import files
from seccoderx_lite.run.folder import RunFolder

Item = TypeVar("Item")
Phase = Literal["before", "after"]
PHASES: tuple[Phase, ...] = ("before", "after")

GREEDY = -1
"""Sample number of the greedy completion."""

ANSWERS = "answers.jsonl"
REGRADE_AT_ONCE = 256
"""Answers held in memory while they are graded anew."""

Key = tuple[str, str, str, int]
"""Phase, suite, task and sample."""
Told = Callable[[int, int, Mapping[str, Json]], None]
"""Is told how many completions are there, of how many, and in which phase."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One completion to ask for."""

    phase: Phase
    suite: Suite
    task: SuiteTask
    sample: int

    @property
    def key(self) -> Key:
        """What identifies its answer."""
        return self.phase, self.suite.name, self.task.id, self.sample


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is remembered of an answer: its score, None when it is unscored, and its status."""

    score: SampleScore | None
    status: str


class Asker:
    """Generates in batches; one batch is graded while the next is generated."""

    def __init__(
        self,
        settings: EvaluateRecipe,
        temperature: float,
        folder: RunFolder,
        generators: Mapping[Phase, Generator],
        graders: Mapping[SuiteKind, Grader],
        told: Told,
    ) -> None:
        self._settings = settings
        self._temperature = temperature
        self._folder = folder
        self._generators = generators
        self._graders = graders
        self._told = told

    def ask(self, suites: Sequence[Suite]) -> dict[Key, Outcome]:
        """Return the outcome of every completion, from answers.jsonl where it is there already."""
        outcomes = read_outcomes(self._folder)
        jobs = [
            Asking(phase, suite, task, sample)
            for phase in self._generators
            for suite in suites
            for task in suite.tasks
            for sample in self._samples()
        ]
        pending: tuple[list[Asking], list[str | None], Future[list[Grade]]] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="grade") as pool:
            for number, batch in enumerate(self._batches(jobs)):
                if all(job.key in outcomes for job in batch):
                    continue
                texts = self._generate(batch, self._settings.seed + number)
                if pending:
                    self._record(*pending, outcomes)
                grader = self._graders[batch[0].suite.kind]
                items = [(job.task, text) for job, text in zip(batch, texts, strict=True)]
                pending = batch, texts, pool.submit(grader.grade, items)
                if grader.uses_model:
                    pending[2].result()
                self._told(len(outcomes), len(jobs), {"phase": batch[0].phase})
            if pending:
                self._record(*pending, outcomes)
        self._told(len(jobs), len(jobs), {})
        return outcomes

    def _samples(self) -> list[int]:
        return [*range(self._settings.samples), *([GREEDY] if self._settings.greedy else [])]

    def _batches(self, jobs: Sequence[Asking]) -> Iterator[list[Asking]]:
        """Yield batches of one phase, one grader and one way of decoding, longest prompts first."""
        kinds: dict[tuple[Phase, bool, SuiteKind], list[Asking]] = {}
        for job in jobs:
            kinds.setdefault((job.phase, job.sample == GREEDY, job.suite.kind), []).append(job)
        for same in kinds.values():
            same.sort(key=lambda job: len(job.task.prompt), reverse=True)
            yield from in_chunks(same, self._settings.batch_size)

    def _generate(self, batch: Sequence[Asking], seed: int) -> list[str | None]:
        import torch

        torch.manual_seed(seed)
        return self._generators[batch[0].phase].generate(
            [job.task.prompt for job in batch],
            max_new_tokens=self._settings.max_completion_tokens,
            temperature=0.0 if batch[0].sample == GREEDY else self._temperature,
        )

    def _record(
        self,
        batch: Sequence[Asking],
        texts: Sequence[str | None],
        grading: "Future[list[Grade]]",
        outcomes: dict[Key, Outcome],
    ) -> None:
        for job, text, grade in zip(batch, texts, grading.result(), strict=True):
            outcomes[job.key] = Outcome(grade.score, grade.status)
            row = {
                "phase": job.phase, "suite": job.suite.name, "task": job.task.id,
                "cwe": list(job.task.cwe), "language": job.task.language, "sample": job.sample,
                "prompt": job.task.prompt,
                "completion": text,
            }  # fmt: skip
            self._folder.append_jsonl(ANSWERS, {**row, **_grade_as_json(grade)})


def read_outcomes(folder: RunFolder) -> dict[Key, Outcome]:
    """Return the outcome of every stored answer."""
    outcomes: dict[Key, Outcome] = {}
    for row in folder.read_jsonl(ANSWERS):
        score = SampleScore(**row["score"]) if row["score"] else None
        outcomes[row["phase"], row["suite"], row["task"], row["sample"]] = Outcome(
            score, row["status"]
        )
    return outcomes


def regrade(
    folder: RunFolder,
    suites: Sequence[Suite],
    graders: Mapping[SuiteKind, Grader],
    told: Callable[[int], None] = lambda done: None,
) -> dict[Key, Outcome]:
    """Grade every stored answer anew, on all cores, and replace answers.jsonl in one stroke.

    Raises:
        DataError: there are no answers, or one is of a task that no suite has.
    """
    tasks = {(suite.name, task.id): (suite.kind, task) for suite in suites for task in suite.tasks}
    outcomes: dict[Key, Outcome] = {}

    def graded() -> Iterator[Mapping[str, Json]]:
        for chunk in in_chunks(folder.read_jsonl(ANSWERS), REGRADE_AT_ONCE):
            for row, grade in zip(chunk, _grade_chunk(chunk, tasks, graders), strict=True):
                key = row["phase"], row["suite"], row["task"], row["sample"]
                outcomes[key] = Outcome(grade.score, grade.status)
                yield {**row, **_grade_as_json(grade)}
            told(len(outcomes))
        if not outcomes:
            raise DataError(f"{folder.path}: there are no answers to grade in {ANSWERS}")

    files.write_jsonl(folder.path / ANSWERS, graded())
    return outcomes


def _grade_chunk(
    rows: Sequence[Mapping[str, Json]],
    tasks: Mapping[tuple[str, str], tuple[SuiteKind, SuiteTask]],
    graders: Mapping[SuiteKind, Grader],
) -> list[Grade]:
    if strange := [row for row in rows if (row["suite"], row["task"]) not in tasks]:
        row = strange[0]
        raise DataError(f"answer of task {row['task']!r}: suite {row['suite']!r} has no such task")
    found = [tasks[row["suite"], row["task"]] for row in rows]
    grades: list[Grade] = [Grade(None, "unscored")] * len(rows)
    for kind in dict.fromkeys(kind for kind, _ in found):
        places = [place for place, (own, _) in enumerate(found) if own == kind]
        items = [(found[place][1], rows[place]["completion"]) for place in places]
        for place, grade in zip(places, graders[kind].grade(items), strict=True):
            grades[place] = grade
    return grades


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of at most `size` items, in order."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _grade_as_json(grade: Grade) -> dict[str, Json]:
    return {
        "score": asdict(grade.score) if grade.score else None,
        "status": grade.status,
        "output": grade.output,
    }
