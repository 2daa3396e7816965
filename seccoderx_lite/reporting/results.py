"""The sections about what was measured: cards, charts and tables of evaluation.json."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from seccoderx_lite.core.scores import (
    PHASES,
    CodeMetric,
    Evaluation,
    GroupScores,
    Phase,
    SuiteDifference,
    SuiteResult,
)
from seccoderx_lite.reporting.charts import Bar, bar_chart, interval_chart
from seccoderx_lite.reporting.page import Card, Section, grid, render, weakness
from seccoderx_lite.reporting.text import METRICS, describe_change

METHOD = (
    "ESR is the mean of functional share \u00d7 all security tests passed. 95% bootstrap intervals "
    "over tasks, paired for differences; McNemar\u2019s exact test on strict func-sec, one "
    "completion per task. Unscored: not measured because of an internal error; excluded from "
    "every mean."
)
GroupKind = Literal["per_cwe", "per_language"]


@dataclass(frozen=True, slots=True)
class Side:
    """One value of a headline, with the colour class of its phase."""

    tone: str
    value: float
    bounds: str


@dataclass(frozen=True, slots=True)
class ResultRow:
    """What was measured on one suite in one phase."""

    suite: str
    phase: Phase
    scores: SuiteResult


@dataclass(frozen=True, slots=True)
class GroupRow:
    """What was measured on one weakness or language of a suite in one phase."""

    suite: str
    group: str
    phase: Phase
    scores: GroupScores


def result_sections(evaluation: Evaluation) -> Iterator[Section]:
    """Yield the sections about an evaluation, nothing if it has no suites."""
    if not evaluation.suites:
        return
    cards = [
        *(_headline_card(evaluation, suite) for suite in evaluation.suites),
        Card("ESR by suite", interval_chart(_points(evaluation, "esr"), "ESR")),
        Card(
            "Function by suite",
            interval_chart(_points(evaluation, "functional"), "functional share"),
        ),
    ]
    yield Section("result", "Result", grid(cards, "headline"))
    yield Section("measured", "Measured", _tables(evaluation), METHOD)
    yield Section("weaknesses", "By weakness", grid(list(_group_charts(evaluation))))


def _results(evaluation: Evaluation) -> Iterator[ResultRow]:
    for suite in evaluation.suites:
        for phase in PHASES:
            if scores := evaluation.result(phase, suite):
                yield ResultRow(suite, phase, scores)


TONES = {"better": "good", "worse": "bad", "no change": ""}
"""Colour class of each verdict on a difference."""
_TONES: dict[str, Phase] = {"from": "before", "through": "warm_start", "to": "after"}
"""Colour class of each phase in a headline."""


def _headline_card(evaluation: Evaluation, suite: str) -> Card:
    measured = {
        tone: result
        for tone, phase in _TONES.items()
        if (result := evaluation.result(phase, suite)) is not None
    }
    scores = list(measured.values())[-1]
    headline: tuple[CodeMetric, ...] = ("esr", "functional", "secure")
    metric = next((one for one in headline if scores.value(one) is not None), None)
    if metric is None:
        body = Markup("<p>Nothing could be scored.</p>")
        return Card(suite, body, f"{scores.unscored} unscored")
    difference = evaluation.difference.get(suite, SuiteDifference())
    body = render(
        "headline",
        sides=[
            Side(tone, value, _bounds(side, metric))
            for tone, side in measured.items()
            if (value := side.value(metric)) is not None
        ],
        name=dict(METRICS)[metric],
        change=difference.change(metric),
        functional=None if metric == "functional" else difference.functional,
        mcnemar=difference.mcnemar,
        scores=scores,
        tones=TONES,
        worst=next(
            (describe_change(change) for change in evaluation.worse if change.suite == suite), None
        ),
    )
    return Card(suite, body)


def _bounds(scores: GroupScores, metric: CodeMetric) -> str:
    interval = scores.interval_95.get(metric)
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""


def _points(evaluation: Evaluation, metric: CodeMetric) -> list[Bar]:
    return [
        Bar(
            row.suite.removeprefix("builtin:"), row.phase, value, row.scores.interval_95.get(metric)
        )
        for row in _results(evaluation)
        if (value := row.scores.value(metric)) is not None
    ]


def _tables(evaluation: Evaluation) -> Markup:
    return render(
        "measured",
        evaluation=evaluation,
        phases=PHASES,
        metrics=METRICS,
        results=list(_results(evaluation)),
        changes=evaluation.group_changes,
        tones=TONES,
        groups=[
            {"title": "weakness", "rows": list(_group_rows(evaluation, "per_cwe"))},
            {"title": "language", "rows": list(_group_rows(evaluation, "per_language"))},
        ],
    )


def _group_rows(evaluation: Evaluation, kind: GroupKind) -> Iterator[GroupRow]:
    """Yield the groups of every suite, the phases of a group one after the other."""
    for suite in evaluation.suites:
        rows = [row for row in _results(evaluation) if row.suite == suite]
        for group in dict.fromkeys(group for row in rows for group in getattr(row.scores, kind)):
            for row in rows:
                if scores := getattr(row.scores, kind).get(group):
                    yield GroupRow(suite, _group_name(group), row.phase, scores)


def _group_charts(evaluation: Evaluation) -> Iterator[Card]:
    """Yield a card of bars per suite and kind of group that has something to show."""
    kinds: Sequence[tuple[GroupKind, str, int]] = (
        ("per_cwe", "weakness", 1),
        ("per_language", "language", 2),
    )
    for suite in evaluation.suites:
        for kind, title, least in kinds:
            bars = [
                bar
                for row in _results(evaluation)
                if row.suite == suite
                for group, scores in getattr(row.scores, kind).items()
                for bar in _group_bars(group, row.phase, scores)
            ]
            if len({bar.group for bar in bars}) >= least:
                note = "Tasks in brackets; thin lines are 95% intervals."
                yield Card(f"{suite}, per {title}", bar_chart(bars, "ESR"), note)


def _group_bars(group: str, phase: Phase, scores: GroupScores) -> Iterator[Bar]:
    """Yield the bar of ESR, or of security where function was not measured; or nothing."""
    metric: CodeMetric = "secure" if scores.esr is None else "esr"
    value = scores.value(metric)
    if value is not None:
        interval = scores.interval_95.get(metric)
        yield Bar(f"{group} ({scores.n})", phase, value, interval, _group_name(group))


def _group_name(group: str) -> str:
    """A weakness with its common name; a language unchanged."""
    return weakness(group) if group.startswith("CWE-") else group
