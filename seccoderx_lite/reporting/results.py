"""What was measured, in cards, charts and tables."""

from collections.abc import Iterator, Mapping, Sequence

from seccoderx_lite.core.records import Json
from seccoderx_lite.reporting.charts import bar_chart, interval_chart
from seccoderx_lite.reporting.page import card, safe, section, table, weakness
from seccoderx_lite.reporting.text import p_value, share, signed

PHASES = ("before", "after")
METRICS = (("functional", "functional"), ("secure", "secure"), ("esr", "ESR"),
           ("func_sec", "func-sec"))  # fmt: skip
METHOD = (
    "ESR is the mean of functional share &times; all security tests passed. 95% bootstrap "
    "intervals over tasks, paired for differences; McNemar&rsquo;s exact test on strict func-sec, "
    "one completion a task. Unscored: what could not be measured through our own fault; it is in "
    "no mean."
)


def results(evaluation: Mapping[str, Json]) -> Iterator[str]:
    """Yield the sections about evaluation.json, nothing without one."""
    suites = list(dict.fromkeys(s for phase in PHASES for s in evaluation.get(phase, {})))
    if not suites:
        return
    yield section("result", "Result", [_headline(evaluation, suites)])
    yield section("measured", "Measured", [_tables(evaluation, suites)], METHOD)
    yield section(
        "weaknesses",
        "By weakness",
        [f'<div class="grid">{"".join(_groups(evaluation, suites))}</div>'],
    )


def _headline(evaluation: Mapping[str, Json], suites: Sequence[str]) -> str:
    cards = "".join(_headline_card(evaluation, suite) for suite in suites)
    charts = card("ESR by suite", interval_chart(_points(evaluation, suites, "esr"), "ESR"))
    charts += card(
        "Function by suite",
        interval_chart(_points(evaluation, suites, "functional"), "functional share"),
    )
    return f'<div class="grid headline">{cards}{charts}</div>'


def _headline_card(evaluation: Mapping[str, Json], suite: str) -> str:
    before, after = (evaluation.get(phase, {}).get(suite) for phase in PHASES)
    scores = after or before
    metric = next((m for m in ("esr", "functional", "secure") if scores[m] is not None), None)
    if metric is None:
        return card(suite, "<p>Nothing could be scored.</p>", f"{scores['unscored']} unscored")
    shown = [
        f'<span class="{name}">{side[metric]:.3f}<small>{_bounds(side, metric)}</small></span>'
        for name, side in (("from", before), ("to", after))
        if side and side[metric] is not None
    ]
    body = f'<div class="big">{"<span class=arrow>&rarr;</span>".join(shown)}</div>'
    changes = evaluation.get("difference", {}).get(suite, {})
    name = dict(METRICS)[metric]
    told = [f"<b>{name}</b> {safe(signed(changes[metric])) if metric in changes else ''}"]
    if metric != "functional" and "functional" in changes:
        told.append(f"functional {safe(signed(changes['functional']))}")
    if test := changes.get("mcnemar"):
        told.append(f"{test['gained']} tasks gained, {test['lost']} lost: {p_value(test['p'])}")
    told.append(f"{scores['n']} tasks, {_unscored(scores['unscored'])}")
    return card(suite, body, "<br>".join(told))


def _bounds(scores: Mapping[str, Json], metric: str) -> str:
    low, high = scores["interval_95"].get(metric) or (None, None)
    return "" if low is None else f"[{low:.3f}, {high:.3f}]"


def _unscored(count: int) -> str:
    text = f"{count} unscored"
    return f'<span class="unscored">{text}</span>' if count else text


def _count_unscored(count: int) -> str:
    return f'<span class="unscored">{count}</span>' if count else "0"


def _points(
    evaluation: Mapping[str, Json], suites: Sequence[str], metric: str
) -> list[dict[str, Json]]:
    rows = []
    for suite in suites:
        for phase in PHASES:
            scores = evaluation.get(phase, {}).get(suite)
            if scores and scores[metric] is not None:
                low, high = scores["interval_95"].get(metric) or (None, None)
                rows.append(
                    {"group": suite.removeprefix("builtin:"), "phase": phase,
                     "value": scores[metric], "low": low, "high": high}
                )  # fmt: skip
    return rows


def _tables(evaluation: Mapping[str, Json], suites: Sequence[str]) -> str:
    heads = ["", "tasks", "samples", "unscored", *(name for _, name in METRICS)]
    rows: list[list[str]] = []
    for suite in suites:
        rows.append([safe(suite)])
        for phase in PHASES:
            if scores := evaluation.get(phase, {}).get(suite):
                rows.append([phase, *_cells(scores)])
                if scores.get("greedy"):
                    rows.append([f"{phase}, greedy", *_cells(scores["greedy"])])
        if changes := evaluation.get("difference", {}).get(suite):
            cells = [safe(signed(changes.get(key))) for key, _ in METRICS]
            rows.append(["difference", "", "", "", *cells])
    parts = [table(heads, rows)]
    parts += [
        _group_table(evaluation, suites, "per_cwe", "weakness"),
        _group_table(evaluation, suites, "per_language", "language"),
        _at_k(evaluation, suites),
        _statuses(evaluation, suites),
    ]
    return "".join(parts)


def _cells(scores: Mapping[str, Json]) -> list[str]:
    return [
        str(scores["n"]), str(scores["n_samples"]), _count_unscored(scores["unscored"]),
        *(safe(share(scores[key], scores["interval_95"].get(key))) for key, _ in METRICS),
    ]  # fmt: skip


def _at_k(evaluation: Mapping[str, Json], suites: Sequence[str]) -> str:
    names = ("func@k", "sec@k", "func_sec@k")
    rows = [
        [safe(suite), phase, k, *(f"{values[name]:.3f}" for name in names)]
        for suite in suites
        for phase in PHASES
        for k, values in evaluation.get(phase, {}).get(suite, {}).get("at_k", {}).items()
    ]
    body = table(["suite", "", "k", "func@k", "sec@k", "func-sec@k"], rows, 2)
    summary = "<summary>At least one of k samples (unbiased)</summary>"
    return f"<details>{summary}{body}</details>" if body else ""


def _statuses(evaluation: Mapping[str, Json], suites: Sequence[str]) -> str:
    rows = [
        [safe(suite), phase, safe(", ".join(f"{name} {count}" for name, count in found.items()))]
        for suite in suites
        for phase in PHASES
        if (found := evaluation.get(phase, {}).get(suite, {}).get("statuses"))
    ]
    body = table(["suite", "", "how the completions ended"], rows, 9)
    return f"<details><summary>How completions ended</summary>{body}</details>" if body else ""


def _groups(evaluation: Mapping[str, Json], suites: Sequence[str]) -> Iterator[str]:
    """Cards of bars, one for each suite and way of grouping that has something to show."""
    for suite in suites:
        for kind, title, least in (("per_cwe", "weakness", 1), ("per_language", "language", 2)):
            rows = [
                {"group": f"{name} ({scores['n']})", "phase": phase, "value": value,
                 "low": low, "high": high, "name": _named(name)}
                for phase in PHASES
                for name, scores in evaluation.get(phase, {}).get(suite, {}).get(kind, {}).items()
                for value, low, high in _headline_value(scores)
            ]  # fmt: skip
            if len({row["group"] for row in rows}) >= least:
                note = "Tasks in brackets; thin lines are 95% intervals."
                yield card(f"{suite}, per {title}", bar_chart(rows, "ESR"), note)


def _headline_value(
    scores: Mapping[str, Json],
) -> Iterator[tuple[float, float | None, float | None]]:
    """Yield ESR, or security where function was not measured, with its interval; or nothing."""
    metric = "esr" if scores["esr"] is not None else "secure"
    if scores[metric] is not None:
        low, high = scores["interval_95"].get(metric) or (None, None)
        yield scores[metric], low, high


def _named(group: str) -> str:
    """A weakness with what people call it; a language as it is."""
    return weakness(group) if group.startswith("CWE-") else group


def _group_table(
    evaluation: Mapping[str, Json], suites: Sequence[str], kind: str, title: str
) -> str:
    rows = [
        [safe(suite), safe(_named(name)), phase, str(scores["n"]),
         _count_unscored(scores["unscored"]),
         *(safe(share(scores[key], scores["interval_95"].get(key))) for key, _ in METRICS[:3])]
        for suite in suites
        for name in dict.fromkeys(
            name for phase in PHASES
            for name in evaluation.get(phase, {}).get(suite, {}).get(kind, {})
        )
        for phase in PHASES
        if (scores := evaluation.get(phase, {}).get(suite, {}).get(kind, {}).get(name))
    ]  # fmt: skip
    heads = ["suite", title, "", "tasks", "unscored", *(name for _, name in METRICS[:3])]
    body = table(heads, rows, 3)
    return f"<details><summary>Per {title}</summary>{body}</details>" if body else ""
