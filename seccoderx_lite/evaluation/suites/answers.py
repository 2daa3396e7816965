"""Generate the completions of suites in batches, grade them, and store both in answers.jsonl.

One row per completion with its grade. A resumed evaluation generates only what is missing;
`regrade` grades the stored completions again without a model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TypeVar

from seccoderx_lite.core.code_blocks import CodeForm
from seccoderx_lite.core.errors import DataError, RunFolderError
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.core.scores import Phase
from seccoderx_lite.evaluation.metrics import SampleScore
from seccoderx_lite.evaluation.suites.grading import Grade, Grader, SuiteTask
from seccoderx_lite.evaluation.suites.loading import Suite, SuiteKind
from seccoderx_lite.models.generation import Generator
from seccoderx_lite.recipe.recipe import EvaluateRecipe
from seccoderx_lite.run import files, stopping
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress, no_progress

Item = TypeVar("Item")

GREEDY = -1
"""Sample number of the greedy completion."""

ANSWERS = "answers.jsonl"
REGRADE_BATCH = 256
"""Answers held in memory while they are graded again."""

AnswerKey = tuple[str, str, str, int]
"""Phase, suite, task and sample."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One completion to generate."""

    phase: Phase
    suite: Suite
    task: SuiteTask
    sample: int

    @property
    def key(self) -> AnswerKey:
        return self.phase, self.suite.name, self.task.id, self.sample


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    """What is kept in memory of an answer: its score, None when unscored, status and form."""

    score: SampleScore | None
    status: str
    form: CodeForm | None = None


Answers = Mapping[AnswerKey, GradedAnswer]


class SuiteRunner:
    """Generates and grades in batches; one batch is graded while the next is generated."""

    def __init__(
        self,
        settings: EvaluateRecipe,
        temperature: float,
        folder: RunFolder,
        generators: Mapping[Phase, Generator],
        graders: Mapping[SuiteKind, Grader],
        progress: Progress = no_progress,
    ) -> None:
        self._settings = settings
        self._temperature = temperature
        self._folder = folder
        self._generators = generators
        self._graders = graders
        self._progress = progress

    def run(self, suites: Sequence[Suite]) -> Answers:
        """Return the graded answer of every completion.

        Those in answers.jsonl are reused; what a failed request left there is asked again.
        """
        self._folder.truncate_jsonl(ANSWERS, lambda row: row.get("completion") is not None)
        answers = read_answers(self._folder)
        requests = [
            CompletionRequest(phase, suite, task, sample)
            for phase in self._generators
            for suite in suites
            for task in suite.tasks
            for sample in self._samples()
        ]
        pending: tuple[list[CompletionRequest], list[str | None], Future[list[Grade]]] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="grade") as pool:
            for number, batch in enumerate(self._batches(requests)):
                if all(request.key in answers for request in batch):
                    continue
                texts = self._generate(batch, self._settings.seed + number)
                if pending:
                    self._store(*pending, answers)
                grader = self._graders[batch[0].suite.kind]
                items = [(request.task, text) for request, text in zip(batch, texts, strict=True)]
                pending = batch, texts, pool.submit(grader.grade, items)
                if grader.uses_model:
                    pending[2].result()
                self._progress("evaluate", len(answers), len(requests), {"phase": batch[0].phase})
                if stopping.is_requested():
                    break
            if pending:
                self._store(*pending, answers)
        stopping.check(f"after {len(answers)} of {len(requests)} answers of the evaluation")
        self._progress("evaluate", len(requests), len(requests), {})
        return answers

    def _samples(self) -> list[int]:
        return [*range(self._settings.samples), *([GREEDY] if self._settings.greedy else [])]

    def _batches(self, requests: Sequence[CompletionRequest]) -> Iterator[list[CompletionRequest]]:
        """Yield batches of one phase, one grader and one way of decoding, longest prompts first."""
        kinds: dict[tuple[Phase, bool, SuiteKind], list[CompletionRequest]] = {}
        for request in requests:
            kind = request.phase, request.sample == GREEDY, request.suite.kind
            kinds.setdefault(kind, []).append(request)
        for alike in kinds.values():
            alike.sort(key=lambda request: len(request.task.prompt), reverse=True)
            yield from in_chunks(alike, self._settings.batch_size)

    def _generate(self, batch: Sequence[CompletionRequest], seed: int) -> list[str | None]:
        import torch

        torch.manual_seed(seed)
        return self._generators[batch[0].phase].generate(
            [request.task.prompt for request in batch],
            max_new_tokens=self._settings.max_completion_tokens,
            temperature=0.0 if batch[0].sample == GREEDY else self._temperature,
        )

    def _store(
        self,
        batch: Sequence[CompletionRequest],
        texts: Sequence[str | None],
        grading: "Future[list[Grade]]",
        answers: dict[AnswerKey, GradedAnswer],
    ) -> None:
        for request, text, grade in zip(batch, texts, grading.result(), strict=True):
            answers[request.key] = GradedAnswer(grade.score, grade.status, grade.form)
            row = {
                "phase": request.phase,
                "suite": request.suite.name,
                "task": request.task.id,
                "cwe": list(request.task.cwe),
                "language": request.task.language,
                "sample": request.sample,
                "prompt": request.task.prompt,
                "completion": text,
            }
            if request.sample == GREEDY and isinstance(request.task.source, Task):
                row["reference"] = request.task.source.reference
            self._folder.append_jsonl(ANSWERS, {**row, **asdict(grade)})


def read_answers(folder: RunFolder) -> dict[AnswerKey, GradedAnswer]:
    """Return every answer stored in answers.jsonl."""
    answers: dict[AnswerKey, GradedAnswer] = {}
    for row in folder.read_records(ANSWERS):
        answers[_key(row)] = GradedAnswer(_score_of(row, folder), row["status"], row.get("form"))
    return answers


def _score_of(row: Mapping[str, Json], folder: RunFolder) -> SampleScore | None:
    try:
        return SampleScore(**row["score"]) if row.get("score") else None
    except TypeError as error:
        raise RunFolderError(
            f"{folder.path / ANSWERS} is damaged: the score of task {row['task']!r:.60} must have "
            f"the fields of a score ({error}); delete its line"
        ) from error


def _key(row: Mapping[str, Json]) -> AnswerKey:
    return row["phase"], row["suite"], row["task"], row["sample"]


def regrade(
    folder: RunFolder,
    suites: Sequence[Suite],
    graders: Mapping[SuiteKind, Grader],
    progress: Progress = no_progress,
) -> Answers:
    """Grade every stored answer again, on all cores, and replace answers.jsonl atomically.

    Raises:
        DataError: there are no answers, or one is of a task that no suite has.
    """
    total = sum(1 for _ in folder.read_records(ANSWERS))
    if not total:
        raise DataError(f"{folder.path}: {ANSWERS} has no answers to grade; evaluate the run first")
    tasks = {(suite.name, task.id): (suite.kind, task) for suite in suites for task in suite.tasks}
    answers: dict[AnswerKey, GradedAnswer] = {}

    def graded_rows() -> Iterator[Mapping[str, Json]]:
        for rows in in_chunks(folder.read_records(ANSWERS), REGRADE_BATCH):
            for row, grade in zip(rows, _grade_rows(rows, tasks, graders), strict=True):
                answers[_key(row)] = GradedAnswer(grade.score, grade.status, grade.form)
                yield {**row, **asdict(grade)}
            progress("grade", len(answers), total, {})
            stopping.check("while grading")

    files.write_jsonl(folder.path / ANSWERS, graded_rows())
    return answers


def _grade_rows(
    rows: Sequence[Mapping[str, Json]],
    tasks: Mapping[tuple[str, str], tuple[SuiteKind, SuiteTask]],
    graders: Mapping[SuiteKind, Grader],
) -> list[Grade]:
    if unknown := [row for row in rows if (row["suite"], row["task"]) not in tasks]:
        row = unknown[0]
        raise DataError(
            f"{ANSWERS}: suite {row['suite']!r} has no task {row['task']!r}; evaluate the "
            "run again if the suite has changed"
        )
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
