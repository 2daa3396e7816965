"""From outcomes to evaluation.json: scores by phase and suite, and paired differences."""

from collections import Counter
from collections.abc import Mapping, Sequence

from seccoderx_lite.core.records import Json
from seccoderx_lite.evaluation.metrics import (
    CODE_METRICS,
    CodeScores,
    TaskScores,
    mcnemar,
    paired_difference,
    score_suite,
)
from seccoderx_lite.evaluation.suites.asking import GREEDY, PHASES, Key, Outcome, Phase
from seccoderx_lite.evaluation.suites.loading import Suite

Outcomes = Mapping[Key, Outcome]


def summarise(suites: Sequence[Suite], outcomes: Outcomes, seed: int) -> dict[str, Json]:
    """Return the content of evaluation.json; the seed is that of the bootstrap."""
    by_task = _by_task(outcomes)
    phases = [phase for phase in PHASES if any(key[0] == phase for key in outcomes)]
    summary: dict[str, Json] = {
        phase: {suite.name: _suite(phase, suite, by_task, seed) for suite in suites}
        for phase in phases
    }
    if len(phases) == 2:
        summary["difference"] = {suite.name: _compare(suite, by_task, seed) for suite in suites}
    return summary


ByTask = Mapping[tuple[str, str, str], Mapping[int, Outcome]]


def _by_task(outcomes: Outcomes) -> ByTask:
    grouped: dict[tuple[str, str, str], dict[int, Outcome]] = {}
    for (phase, suite, task, sample), outcome in outcomes.items():
        grouped.setdefault((phase, suite, task), {})[sample] = outcome
    return grouped


def task_scores(
    phase: Phase, suite: Suite, by_task: ByTask, *, greedy: bool = False
) -> list[TaskScores]:
    """Return the sampled, or the greedy, scores of every task of a suite."""
    return [
        TaskScores(
            task.id,
            task.cwe,
            tuple(
                outcome.score
                for sample, outcome in sorted(by_task.get((phase, suite.name, task.id), {}).items())
                if (sample == GREEDY) == greedy
            ),
            task.language,
        )
        for task in suite.tasks
    ]


def _suite(phase: Phase, suite: Suite, by_task: ByTask, seed: int) -> dict[str, Json]:
    greedy = task_scores(phase, suite, by_task, greedy=True)
    statuses = Counter(
        outcome.status
        for task in suite.tasks
        for outcome in by_task.get((phase, suite.name, task.id), {}).values()
    )
    return {
        **scores_as_json(_scores(task_scores(phase, suite, by_task), seed)),
        "statuses": dict(statuses.most_common()),
        "greedy": scores_as_json(_scores(greedy, seed)) if greedy and greedy[0].samples else None,
    }


def _scores(tasks: Sequence[TaskScores], seed: int) -> CodeScores:
    """Scores of the tasks with a security side, or of the benign ones where there are no others."""
    scores = score_suite(tasks, seed)
    return scores.security if scores.security.n or not scores.benign.n else scores.benign


def scores_as_json(scores: CodeScores) -> dict[str, Json]:
    """Return scores as they stand in evaluation.json."""
    return {
        **{metric: getattr(scores, metric) for metric in CODE_METRICS},
        "n": scores.n,
        "n_samples": scores.n_samples,
        "unscored": scores.unscored,
        "interval_95": {metric: list(bounds) for metric, bounds in scores.interval_95.items()},
        "at_k": {str(k): dict(values) for k, values in scores.at_k.items()},
        "per_cwe": {name: _group(of) for name, of in scores.per_cwe.items()},
        "per_language": {name: _group(of) for name, of in scores.per_language.items()},
    }


def _group(scores: CodeScores) -> dict[str, Json]:
    return {
        **{metric: getattr(scores, metric) for metric in CODE_METRICS},
        "n": scores.n,
        "unscored": scores.unscored,
        "interval_95": {metric: list(bounds) for metric, bounds in scores.interval_95.items()},
    }


def _one_a_task(phase: Phase, suite: Suite, by_task: ByTask) -> list[bool | None]:
    """Strict func-sec of one completion a task: the greedy one, or the first sample without it."""
    found: list[bool | None] = []
    for task in suite.tasks:
        samples = by_task.get((phase, suite.name, task.id), {})
        outcome = samples.get(GREEDY) or samples.get(0)
        value = outcome.score.func_sec if outcome and outcome.score else None
        found.append(None if value is None else value == 1.0)
    return found


def _compare(suite: Suite, by_task: ByTask, seed: int) -> dict[str, Json]:
    """The paired difference of each metric with its interval, and McNemar's test."""
    before, after = (task_scores(phase, suite, by_task) for phase in PHASES)
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
    test = mcnemar(*(_one_a_task(phase, suite, by_task) for phase in PHASES))
    if test.n:
        differences["mcnemar"] = {
            "gained": test.gained, "lost": test.lost, "p": test.p, "n": test.n,
        }  # fmt: skip
    return differences
