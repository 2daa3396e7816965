"""Completions are generated once, graded, stored, and graded again from the file."""

import json
from itertools import chain

import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.scores import Evaluation, McNemar
from seccoderx_lite.evaluation.metrics import SampleScore
from seccoderx_lite.evaluation.suites.answers import (
    ANSWERS,
    GREEDY,
    GradedAnswer,
    SuiteRunner,
    in_chunks,
    regrade,
)
from seccoderx_lite.evaluation.suites.grading import Grade, SuiteTask, TestsGrader
from seccoderx_lite.evaluation.suites.loading import Suite, load_suite
from seccoderx_lite.evaluation.suites.summary import summarise
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.run.files import read_record, write_json
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.sandbox import Sandbox

RECIPE = check_recipe(
    {
        "name": "run",
        "model": {"base": "builtin:tiny"},
        "evaluate": {"suites": ["mine"], "samples": 2, "batch_size": 3},
    },
    "test",
)
SUITE = Suite(
    "mine",
    tuple(SuiteTask(f"t{n}", "Write " * (n + 1), "python", (f"CWE-{n + 20}",)) for n in range(3)),
)


class FakeGenerator:
    """Says what it was asked, and counts."""

    def __init__(self, stop_after=None, text="answer"):
        self.asked, self.stop_after, self.text = 0, stop_after, text

    def generate(self, prompts, *, max_new_tokens, temperature):
        if self.stop_after is not None and self.asked >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += len(prompts)
        return [self.text] * len(prompts)


class FakeGrader:
    uses_model = False

    def __init__(self, secure=1.0):
        self.secure = secure

    def grade(self, items):
        return [
            Grade(None if text is None else SampleScore(1.0, self.secure), "passed", task.id)
            for task, text in items
        ]


@pytest.fixture
def folder(tmp_path):
    with RunFolder.open(tmp_path / "run", RECIPE) as folder:
        yield folder


def answer(folder, generators, grader=None):
    graders = {"tests": grader or FakeGrader()}
    return SuiteRunner(RECIPE.evaluate, 0.8, folder, generators, graders).run([SUITE])


def stored(folder):
    return [json.loads(line) for line in (folder.path / ANSWERS).read_text().splitlines()]


def test_every_sample_and_a_greedy_one_is_generated_and_stored_with_its_grade(folder):
    answers = answer(folder, {"before": FakeGenerator()})
    assert set(answers) == {
        ("before", "mine", f"t{n}", sample) for n in range(3) for sample in (0, 1, GREEDY)
    }
    assert all(row["output"] == row["task"] and row["prompt"] for row in stored(folder))


def test_an_interrupted_evaluation_generates_only_what_is_missing(folder):
    with pytest.raises(KeyboardInterrupt):
        answer(folder, {"before": FakeGenerator(stop_after=6)})
    kept = len(stored(folder))
    assert 0 < kept < 9
    again = FakeGenerator()
    assert len(answer(folder, {"before": again})) == 9
    assert again.asked <= 9 - kept + 2  # no more than the rest of a batch is asked for twice


def test_answers_that_failed_are_asked_for_again_by_the_next_run(folder):
    answers = answer(folder, {"before": FakeGenerator(text=None)})
    assert {graded.score for graded in answers.values()} == {None}
    again = FakeGenerator()
    answers = answer(folder, {"before": again})
    assert again.asked == 9 == len(stored(folder))
    assert {graded.score.functional for graded in answers.values()} == {1.0}


def test_unscored_benign_tasks_are_counted(folder):
    suite = Suite("mine", (SuiteTask("t", "Write.", "python", ()),))
    answers = {("before", "mine", "t", 0): GradedAnswer(None, "failed_query")}
    evaluation = summarise([suite], answers, seed=0)
    assert evaluation.before["mine"].unscored == evaluation.unanswered == 1
    assert not evaluation.has_scores


def test_grading_again_replaces_the_grades_and_keeps_the_completions(folder):
    answer(folder, {"before": FakeGenerator()})
    answers = regrade(folder, [SUITE], {"tests": FakeGrader(secure=0.0)})
    assert {graded.score.secure for graded in answers.values()} == {0.0}
    assert {(row["completion"], row["score"]["secure"]) for row in stored(folder)} == {
        ("answer", 0.0)
    }


def test_an_answer_to_a_task_that_is_gone_is_an_error(folder):
    answer(folder, {"before": FakeGenerator()})
    with pytest.raises(DataError, match="has no task"):
        regrade(folder, [Suite("mine", SUITE.tasks[:1])], {"tests": FakeGrader()})
    assert len(stored(folder)) == 9


def test_grading_again_without_answers_is_an_error(folder):
    with pytest.raises(DataError, match="no answers"):
        regrade(folder, [SUITE], {"tests": FakeGrader()})


def answers_of(before, after):
    return {
        (phase, "mine", f"t{n}", sample): GradedAnswer(score, "passed")
        for phase, scores in (("before", before), ("after", after))
        for n, score in enumerate(scores)
        for sample in (0, GREEDY)
    }


def test_differences_are_paired_and_come_with_interval_and_mcnemar():
    insecure, secure = SampleScore(1.0, 0.0), SampleScore(1.0, 1.0)
    summary = summarise(
        [SUITE], answers_of([insecure, insecure, secure], [secure, secure, secure]), seed=0
    )
    change = summary.difference["mine"]
    assert change.esr.mean == pytest.approx(2 / 3) and change.esr.interval_95
    assert change.mcnemar == McNemar(gained=2, lost=0, p=0.5, n=3)
    assert summary.after["mine"].per_language["python"].n == 3
    assert summary.after["mine"].at_k[1]["func_sec@k"] == 1.0


def test_an_evaluation_is_the_same_when_read_from_its_file(tmp_path):
    secure, benign = SampleScore(1.0, 1.0), SampleScore(0.5, None)
    for scores in ([secure] * 3, [benign] * 3):
        evaluation = summarise([SUITE], answers_of(scores, scores), seed=0)
        file = write_json(tmp_path / "evaluation.json", evaluation.as_json())
        assert read_record(file, Evaluation) == evaluation
    assert "esr" not in json.loads(file.read_text())["difference"]["mine"]


def test_unscored_samples_are_counted_and_in_no_mean():
    secure = SampleScore(1.0, 1.0)
    summary = summarise([SUITE], answers_of([None, secure, secure], [secure] * 3), seed=0)
    before = summary.before["mine"]
    assert (before.esr, before.n, before.unscored) == (1.0, 2, 1)
    assert summary.difference["mine"].esr.n == 2


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (3, [3]), (7, [3, 3, 1])])
def test_chunks_hold_everything_in_order(count, sizes):
    chunks = list(in_chunks(range(count), 3))
    assert [len(chunk) for chunk in chunks] == sizes and [*chain(*chunks)] == [*range(count)]


def test_a_tasks_own_tests_grade_its_completions():
    suite = load_suite("builtin:tiny")[0]
    task = suite.tasks[0]
    reference = f"```python\n{task.source.reference}\n```"
    with Sandbox(workers=1) as sandbox:
        grades = TestsGrader(sandbox).grade([(task, reference), (task, "prose"), (task, None)])
    assert [grade.score for grade in grades] == [
        SampleScore(1.0, 1.0),
        SampleScore(0.0, 0.0),
        None,
    ]


@pytest.mark.parametrize(
    ("completion", "status", "form", "functional"),
    [
        ("```python\n{}\n```", "passed", "block", 1.0),
        ("{}", "passed", "bare", 1.0),
        ("```python\n{}", "passed", "unclosed", 1.0),
        ("```python\n{}\n    if", "truncated", "unclosed", 0.0),
        ("I would rather not.", "no_code", "none", 0.0),
        ("```sh\npip install x\n```", "no_code", "none", 0.0),
        ("<think>\n```python\n{}\n```", "truncated", "unfinished", 0.0),
        ("```python\n{}\nraise ValueError\n```", "load_error", "block", 0.0),
        (None, "failed_query", None, None),
    ],
)
def test_a_grade_tells_missing_and_truncated_code_apart(completion, status, form, functional):
    task = load_suite("builtin:tiny")[0].tasks[0]
    text = completion and completion.format(task.source.reference)
    with Sandbox(workers=1) as sandbox:
        (grade,) = TestsGrader(sandbox).grade([(task, text)])
    assert (grade.status, grade.form) == (status, form)
    assert (grade.score and grade.score.functional) == functional


def test_the_forms_of_answers_are_counted_over_all_samples():
    score = SampleScore(1.0, 1.0)
    answers = {
        ("before", "mine", f"t{n}", 0): GradedAnswer(score, "passed", form)
        for n, form in enumerate(["block", "bare", None])
    }
    result = summarise([SUITE], answers, seed=0).before["mine"]
    assert result.forms == {"block": 1, "bare": 1} and result.form_share("bare") == 0.5


def test_a_file_without_tests_is_refused_with_the_ways_out(tmp_path):
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"id": "a", "prompt": "Write.", "language": "python"}\n')
    with pytest.raises(DataError, match="cweval:FOLDER"):
        load_suite(str(file))
