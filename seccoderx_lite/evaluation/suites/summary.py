"""From graded answers to evaluation.json: scores by phase and suite, and paired differences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from seccoderx_lite.core.scores import (
    CODE_METRICS,
    PHASES,
    CodeMetric,
    CodeScores,
    Difference,
    Evaluation,
    GroupChange,
    Phase,
    SuiteDifference,
    SuiteResult,
)
from seccoderx_lite.evaluation.group_changes import group_changes
from seccoderx_lite.evaluation.metrics import TaskScores, mcnemar, paired_difference, score_suite
from seccoderx_lite.evaluation.suites.answers import GREEDY, Answers, GradedAnswer
from seccoderx_lite.evaluation.suites.loading import Suite

ByTask = Mapping[tuple[str, str, str], Mapping[int, GradedAnswer]]
"""Graded answers by sample, by phase, suite and task."""


def summarise(suites: Sequence[Suite], answers: Answers, seed: int) -> Evaluation:
    """Return every score of the answers; `seed` seeds the bootstrap."""
    by_task: dict[tuple[str, str, str], dict[int, GradedAnswer]] = {}
    for (phase, suite_name, task, sample), answer in answers.items():
        by_task.setdefault((phase, suite_name, task), {})[sample] = answer
    results = {
        phase: {suite.name: _suite_result(phase, suite, by_task, seed) for suite in suites}
        for phase in PHASES
        if any(key[0] == phase for key in answers)
    }

    def compared(earlier: Phase, later: Phase) -> dict[str, SuiteDifference]:
        if not results.keys() >= {earlier, later}:
            return {}
        pair = earlier, later
        return {suite.name: _suite_difference(suite, by_task, seed, pair) for suite in suites}

    return Evaluation(
        before=results.get("before", {}),
        warm_start=results.get("warm_start", {}),
        after=results.get("after", {}),
        difference=compared("before", "after"),
        warm_start_difference=compared("before", "warm_start"),
        alignment_difference=compared("warm_start", "after"),
        group_changes=_group_changes(suites, by_task, seed, list(results)),
    )


def _group_changes(
    suites: Sequence[Suite], by_task: ByTask, seed: int, phases: Sequence[Phase]
) -> tuple[GroupChange, ...]:
    """Compare the policy with what GRPO started from; nothing if one was not measured."""
    if "after" not in phases or len(phases) < 2:
        return ()
    pair: tuple[Phase, Phase] = ("warm_start" if "warm_start" in phases else "before", "after")
    return group_changes(
        {
            suite.name: (
                _task_scores(pair[0], suite, by_task),
                _task_scores(pair[1], suite, by_task),
            )
            for suite in suites
        },
        seed,
    )


def _task_scores(
    phase: Phase, suite: Suite, by_task: ByTask, *, greedy: bool = False
) -> list[TaskScores]:
    """The sampled, or the greedy, scores of every task of a suite."""
    return [
        TaskScores(
            task.id,
            task.cwe,
            tuple(
                answer.score
                for sample, answer in sorted(by_task.get((phase, suite.name, task.id), {}).items())
                if (sample == GREEDY) == greedy
            ),
            task.language,
        )
        for task in suite.tasks
    ]


def _suite_result(phase: Phase, suite: Suite, by_task: ByTask, seed: int) -> SuiteResult:
    greedy = _task_scores(phase, suite, by_task, greedy=True)
    answers = [
        answer
        for task in suite.tasks
        for answer in by_task.get((phase, suite.name, task.id), {}).values()
    ]
    statuses = Counter(answer.status for answer in answers)
    forms = Counter(answer.form for answer in answers if answer.form)
    scores = _scores(_task_scores(phase, suite, by_task), seed)
    return SuiteResult(
        **{each.name: getattr(scores, each.name) for each in fields(scores)},
        statuses=dict(statuses.most_common()),
        forms=dict(forms.most_common()),
        greedy=_scores(greedy, seed) if greedy and greedy[0].samples else None,
    )


def _scores(tasks: Sequence[TaskScores], seed: int) -> CodeScores:
    """Scores of the tasks with security tests, or of the benign tasks if there are no others.

    What is unscored is counted in all tasks.
    """
    scores = score_suite(tasks, seed)
    is_benign = scores.benign.n or (not scores.security.n and not any(task.cwe for task in tasks))
    chosen = scores.benign if is_benign and not scores.security.n else scores.security
    return replace(chosen, unscored=scores.security.unscored + scores.benign.unscored)


def _suite_difference(
    suite: Suite, by_task: ByTask, seed: int, pair: tuple[Phase, Phase]
) -> SuiteDifference:
    before, after = (_task_scores(phase, suite, by_task) for phase in pair)
    test = mcnemar(*(_one_per_task(phase, suite, by_task) for phase in pair))
    return SuiteDifference(
        **paired_differences(before, after, seed), mcnemar=test if test.n else None
    )


def paired_differences(
    before: Sequence[TaskScores], after: Sequence[TaskScores], seed: int
) -> dict[CodeMetric, Difference]:
    """Return the paired difference of every metric that has a value in both measurements."""
    differences: dict[CodeMetric, Difference] = {}
    for metric in CODE_METRICS:
        try:
            differences[metric] = paired_difference(before, after, metric, seed)
        except ValueError:  # nothing scored both times, or benign tasks, which have no such metric
            continue
    return differences


def _one_per_task(phase: Phase, suite: Suite, by_task: ByTask) -> list[bool | None]:
    """Strict func-sec of the greedy completion of each task, or of the first sample without one."""
    found: list[bool | None] = []
    for task in suite.tasks:
        samples = by_task.get((phase, suite.name, task.id), {})
        answer = samples.get(GREEDY) or samples.get(0)
        value = answer.score.func_sec if answer and answer.score else None
        found.append(None if value is None else value == 1.0)
    return found
