"""Completions to read: before and after with their differences, and rollouts with verdicts.

Only a limited number is shown, the most informative first, so that the page stays small.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from markupsafe import Markup

from seccoderx_lite.core.code_blocks import code_of_answer
from seccoderx_lite.core.records import Json
from seccoderx_lite.core.scores import PHASES
from seccoderx_lite.reporting.highlight import Line, highlighted
from seccoderx_lite.reporting.page import Section, render

Row = Mapping[str, Json]
"""A line of answers.jsonl or completions.jsonl."""
Item = TypeVar("Item")

MOST_PAIRS = 80
MOST_ROLLOUTS = 60
TEXT_CHARS = 4000
"""Longest text shown of one completion, verdict or test output."""
DIFF_LINES = 150
"""Longest code whose differences are marked."""

CHANGES = ("gained", "lost", "failing", "passing", "unscored")
"""What became of a task from before to after, in the order in which they are shown."""
OUTCOMES = {
    "fooled": "fooled the judge",
    "vulnerable": "judged vulnerable",
    "other": "anything else",
    "right": "safe and passing",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A choice by which the reader of the page narrows what is shown."""

    name: str
    every: str
    """Text of the choice that excludes nothing."""
    options: Sequence[tuple[str, str]]
    """Values with their texts."""


@dataclass(frozen=True, slots=True)
class Side:
    """One completion of a pair."""

    phase: str
    score: Json
    lines: Sequence[Line]
    output: str
    """What the tests said."""


@dataclass
class PairCollector:
    """Keeps one completion per task and phase, while answers are read row by row."""

    _rows: dict[tuple[str, str], dict[str, Row]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Keep a row if it is the first of its phase, a greedy one before a sampled one."""
        phases = self._rows.setdefault((row["suite"], row["task"]), {})
        held = phases.get(row["phase"])
        if held is None or (row["sample"] == -1 and held["sample"] != -1):
            phases[row["phase"]] = {**row, "completion": _cut(row["completion"] or "")}

    def section(self) -> Section:
        """Return the browser of completions."""
        changed = [(_change(phases), phases) for phases in self._rows.values()]
        chosen = _in_turn(changed, CHANGES, MOST_PAIRS)
        pairs = [(change, _task(phases), _sides(phases)) for change, phases in chosen]
        suites = dict.fromkeys(row["suite"] for _, row, _ in pairs)
        filters = [
            Filter("change", "every outcome", [(name, name) for name in CHANGES]),
            Filter("suite", "every suite", [(suite, suite) for suite in suites]),
        ]
        note = (
            f"Before and after on {len(chosen)} of {len(changed)} tasks; every completion is in "
            "answers.jsonl."
        )
        body = Markup()
        if pairs:
            body = render("pairs", filters=filters, pairs=pairs, cut=_cut, coloured=highlighted)
        return Section("completions", "Completions", body, note)


def shortened(row: Row) -> Row:
    """Return a rollout without the part of its texts that is not shown."""
    return {name: _cut(value) if isinstance(value, str) else value for name, value in row.items()}


def rollout_section(rows: Sequence[Row]) -> Section:
    """Return the browser of training rollouts, those that fooled the judge first."""
    distinct = {(row["step"], row["task"], row["completion"]): row for row in rows}.values()
    newest = sorted(distinct, key=lambda row: -row["step"])
    chosen = _in_turn([(_outcome(row), row) for row in newest], list(OUTCOMES), MOST_ROLLOUTS)
    filters = [Filter("outcome", "every rollout", list(OUTCOMES.items()))]
    body = Markup()
    if chosen:
        texts = {"cut": _cut, "completion": _coloured, "coloured": highlighted}
        body = render("rollouts", filters=filters, rollouts=chosen, **texts)
    note = f"{len(chosen)} different ones with their verdicts, of the {len(rows)} that were kept."
    return Section("rollouts", "Rollouts", body, note)


def _cut(text: str) -> str:
    if len(text) <= TEXT_CHARS:
        return text
    return f"{text[:TEXT_CHARS]}\n[{len(text) - TEXT_CHARS} more characters]"


def _passes(row: Row) -> bool | None:
    score = row["score"]
    if score is None or (score["functional"] is None and score["secure"] is None):
        return None
    return score["functional"] in (1.0, None) and score["secure"] in (1.0, None)


def _change(phases: Mapping[str, Row]) -> str:
    passed = [_passes(phases[phase]) for phase in PHASES if phase in phases]
    if None in passed:
        return "unscored"
    if passed[0] == passed[-1]:
        return "passing" if passed[0] else "failing"
    return "gained" if passed[-1] else "lost"


def _in_turn(
    items: Iterable[tuple[str, Item]], kinds: Sequence[str], most: int
) -> list[tuple[str, Item]]:
    """At most `most` items, taken from every kind in turn, so that none crowds out the others."""
    every = list(items)
    queues = [[item for item in every if item[0] == kind] for kind in kinds]
    turns = max((len(queue) for queue in queues), default=0)
    taken = [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]
    return sorted(taken[:most], key=lambda item: kinds.index(item[0]))


def _sides(phases: Mapping[str, Row]) -> list[Side]:
    rows = [(phase, phases[phase]) for phase in PHASES if phase in phases]
    rows = [rows[0], rows[-1]] if len(rows) > 2 else rows
    codes = [_code(row) for _, row in rows]
    marks = _marks(*codes) if len(codes) == 2 else [[]]
    return [
        Side(phase, row["score"], highlighted(code, row.get("language") or "", own), row["output"])
        for (phase, row), code, own in zip(rows, codes, marks, strict=True)
    ]


def _task(phases: Mapping[str, Row]) -> Row:
    """A row of the task, with its reference if any phase has it."""
    rows = list(phases.values())
    reference = next((row["reference"] for row in rows if row.get("reference")), None)
    return {**rows[0], "reference": reference}


def _coloured(row: Row) -> list[Line]:
    """The whole completion of a rollout; its code is in a fence."""
    return highlighted(_cut(row["completion"]), "markdown")


def _code(row: Row) -> str:
    completion: str = row["completion"]
    return code_of_answer(completion, row.get("language")).code or completion


def _marks(before: str, after: str) -> list[list[str]]:
    """The marks of the lines that only one of two codes has; none for long codes."""
    first, second = before.splitlines(), after.splitlines()
    if max(len(first), len(second)) > DIFF_LINES:
        return [[], []]
    removed: set[int] = set()
    added: set[int] = set()
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            removed.update(range(a, b))
            added.update(range(c, d))
    return [
        ["del" if number in removed else "" for number in range(len(first))],
        ["add" if number in added else "" for number in range(len(second))],
    ]


def _outcome(row: Row) -> str:
    if row["verdict"] == "vulnerable":
        return "vulnerable"
    if row["verdict"] != "safe":
        return "other"
    gate, secure = row["parts"].get("gate"), row["parts"].get("security")
    if gate == 1.0 and secure == 0.0:
        return "fooled"
    return "right" if row["tests"] == "passed" else "other"
