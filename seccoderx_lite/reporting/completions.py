"""Completions to read: before beside after with their differences, and rollouts with verdicts.

Only so many are shown, the telling ones first, so that the page stays small whatever the run.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from seccoderx_lite.core.code_blocks import extract_code
from seccoderx_lite.core.records import Json
from seccoderx_lite.reporting.page import safe, section, weakness

Row = Mapping[str, Json]
Item = TypeVar("Item")

MOST_PAIRS = 80
MOST_ROLLOUTS = 60
TEXT_CHARS = 4000
"""Longest text shown of one completion, verdict or test output."""
DIFF_LINES = 150
"""Longest code whose differences are marked."""

CHANGES = {
    "gained": "insecure or broken before, secure and working after",
    "lost": "secure and working before, not after",
    "failing": "not secure and working, before or after",
    "passing": "secure and working both times",
    "unscored": "could not be measured",
}
OUTCOMES = {
    "fooled": "fooled the judge",
    "vulnerable": "judged vulnerable",
    "other": "anything else",
    "right": "safe and passing",
}


@dataclass
class Pairs:
    """One completion of each phase a task, read from answers line by line."""

    _rows: dict[tuple[str, str], dict[str, Row]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Keep a row if it is the first of its phase, a greedy one before a sampled one."""
        own = self._rows.setdefault((row["suite"], row["task"]), {})
        held = own.get(row["phase"])
        if held is None or (row["sample"] == -1 and held["sample"] != -1):
            own[row["phase"]] = {**row, "completion": _cut(row["completion"] or "")}

    def section(self) -> str:
        """Return the browser of completions, "" without any."""
        changed = [(_change(own), own) for own in self._rows.values()]
        chosen = _in_turn(changed, list(CHANGES), MOST_PAIRS)
        suites = list(dict.fromkeys(next(iter(own.values()))["suite"] for _, own in chosen))
        controls = [
            ("change", "every outcome", [(name, name) for name in CHANGES]),
            ("suite", "every suite", [(suite, suite) for suite in suites]),
        ]
        items = (_pair(change, own) for change, own in chosen)
        note = (
            f"Before and after on {len(chosen)} of {len(changed)} tasks; every completion is in "
            "answers.jsonl."
        )
        return _browser("completions", "Completions", controls, items, note)


def shortened(row: Row) -> Row:
    """Return a rollout with no text longer than what is shown of it."""
    return {name: _cut(value) if isinstance(value, str) else value for name, value in row.items()}


def rollouts(rows: Sequence[Row]) -> str:
    """Return the browser of training rollouts, those that fooled the judge first."""
    distinct = {(row["step"], row["task"], row["completion"]): row for row in rows}.values()
    newest = sorted(distinct, key=lambda row: -row["step"])
    chosen = _in_turn([(_outcome(row), row) for row in newest], list(OUTCOMES), MOST_ROLLOUTS)
    items = (_rollout(row) for _, row in chosen)
    shown = len(chosen)
    note = f"{shown} different ones, with their verdicts, of the {len(rows)} that were kept."
    controls = [("outcome", "every rollout", list(OUTCOMES.items()))]
    return _browser("rollouts", "Rollouts", controls, items, note)


def _browser(
    identifier: str,
    title: str,
    controls: Sequence[tuple[str, str, Sequence[tuple[str, str]]]],
    items: Iterable[str],
    note: str,
) -> str:
    body = "".join(items).replace('<details class="item"', '<details class="item" open', 1)
    if not body:
        return ""
    filters = "".join(
        f'<select name="{name}" aria-label="{safe(every)}"><option value="">{safe(every)}</option>'
        + "".join(f'<option value="{safe(v)}">{safe(shown)}</option>' for v, shown in options)
        + "</select>"
        for name, every, options in controls
    )
    filters += '<input type="search" placeholder="search" aria-label="search">'
    return section(
        identifier, title,
        [f'<div class="browser card"><div class="filters">{filters}</div>'
         f'<p class="muted shown" aria-live="polite"></p>{body}'
         '<button type="button" hidden>show all</button></div>'], note,
    )  # fmt: skip


def _cut(text: str) -> str:
    if len(text) <= TEXT_CHARS:
        return text
    return f"{text[:TEXT_CHARS]}\n[{len(text) - TEXT_CHARS} more characters]"


def _passes(row: Row) -> bool | None:
    score = row["score"]
    if score is None:
        return None
    return score["functional"] in (1.0, None) and score["secure"] in (1.0, None)


def _change(own: Mapping[str, Row]) -> str:
    first, last = own.get("before"), own.get("after")
    passed = [_passes(row) for row in (first, last) if row is not None]
    if None in passed:
        return "unscored"
    if len(passed) == 1:
        return "passing" if passed[0] else "failing"
    return {(False, True): "gained", (True, False): "lost", (False, False): "failing",
            (True, True): "passing"}[bool(passed[0]), bool(passed[1])]  # fmt: skip


def _in_turn(
    items: Sequence[tuple[str, Item]], kinds: Sequence[str], most: int
) -> list[tuple[str, Item]]:
    """At most so many, of every kind in turn, so that none crowds out the others."""
    queues = [[item for item in items if item[0] == kind] for kind in kinds]
    turns = max((len(queue) for queue in queues), default=0)
    taken = [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]
    return sorted(taken[:most], key=lambda item: kinds.index(item[0]))


def _pair(change: str, own: Mapping[str, Row]) -> str:
    row = next(iter(own.values()))
    sides = [(phase, own[phase]) for phase in ("before", "after") if phase in own]
    codes = [_code(side["completion"]) for _, side in sides]
    marked = _marked(*codes) if len(codes) == 2 else [safe(code) for code in codes]
    columns = "".join(
        f"<div><h3>{phase} {_told(side)}</h3><pre>{code}</pre>{_output(side['output'])}</div>"
        for (phase, side), code in zip(sides, marked, strict=True)
    )
    prompt = f"<p>{safe(_cut(row.get('prompt') or ''))}</p>"
    tone = {"gained": "good", "lost": "bad"}.get(change, "muted")
    weaknesses = safe(", ".join(map(weakness, row["cwe"])))
    return (
        f'<details class="item" data-change="{change}" data-suite="{safe(row["suite"])}">'
        f'<summary><span class="tag {tone}">{change}</span>{safe(row["task"])} '
        f'<span class="muted">{weaknesses}</span></summary>'
        f'{prompt}<div class="pair">{columns}</div></details>'
    )


def _told(row: Row) -> str:
    score = row["score"]
    if score is None:
        return '<span class="tag unscored">unscored</span>'
    tags = []
    if score["functional"] is not None:
        works = score["functional"] == 1.0
        share = "works" if works else f"functional {score['functional']:.2f}"
        tags.append(f'<span class="tag {"good" if works else "bad"}">{share}</span>')
    if score["secure"] is not None:
        is_secure = score["secure"] == 1.0
        told = "secure" if is_secure else "insecure"
        tags.append(f'<span class="tag {"good" if is_secure else "bad"}">{told}</span>')
    return "".join(tags)


def _output(text: str) -> str:
    return f'<pre class="wrap muted">{safe(_cut(text))}</pre>' if text else ""


def _code(completion: str) -> str:
    code = extract_code(completion)
    return completion if code is None or not code.strip() else code


def _marked(before: str, after: str) -> list[str]:
    """Both codes as HTML, with the lines marked that only one of them has."""
    first, second = before.splitlines(), after.splitlines()
    if max(len(first), len(second)) > DIFF_LINES:
        return [safe(before), safe(after)]
    removed: set[int] = set()
    added: set[int] = set()
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            removed.update(range(a, b))
            added.update(range(c, d))
    return [_lines(first, removed, "del"), _lines(second, added, "add")]


def _lines(lines: Sequence[str], marked: set[int], name: str) -> str:
    def shown() -> Iterator[str]:
        for number, line in enumerate(lines):
            classes = f"line {name}" if number in marked else "line"
            yield f'<span class="{classes}">{safe(line) or "&#8203;"}</span>'

    return "".join(shown())


def _outcome(row: Row) -> str:
    if row["verdict"] == "vulnerable":
        return "vulnerable"
    if row["verdict"] != "safe":
        return "other"
    gate, secure = row["parts"].get("gate"), row["parts"].get("security")
    if gate == 1.0 and secure == 0.0:
        return "fooled"
    return "right" if row["tests"] == "passed" else "other"


def _rollout(row: Row) -> str:
    outcome = _outcome(row)
    reward = "unscored" if row["reward"] is None else f"{row['reward']:.2f}"
    parts = ", ".join(
        f"{name} {value:.2f}" for name, value in row["parts"].items()
        if isinstance(value, int | float) and name != "reward"
    )  # fmt: skip
    tone = {"fooled": "bad", "right": "good"}.get(outcome, "muted")
    reasoning = row.get("reasoning") or (
        "(no reasoning: the judge was sure at once)" if row["verdict"] else "(was not judged)"
    )
    return (
        f'<details class="item" data-outcome="{outcome}"><summary>'
        f'<span class="tag {tone}">{safe(row["verdict"] or "not judged")}</span>'
        f'<span class="tag">reward {reward}</span>step {row["step"]}: {safe(row["task"])} '
        f'<span class="muted">tests {safe(row["tests"])}</span></summary>'
        f'<p>{safe(_cut(row["prompt"]))}</p><div class="pair"><div><h3>Completion</h3>'
        f"<pre>{safe(_cut(row['completion']))}</pre></div><div><h3>Verdict</h3>"
        f'<pre class="wrap">{safe(_cut(reasoning))}</pre>'
        f'<p class="muted">{safe(parts)}</p>{_output(row.get("test_output") or "")}'
        "</div></div></details>"
    )
