"""Charts as inline SVG, drawn by Vega-Lite; colours are the page's, so they follow light and dark.

Every point carries its value as an aria-label, which is what the page shows as a tooltip.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import vl_convert

MOST_POINTS = 120
"""Points of one line; longer runs are averaged over neighbouring steps."""
SMOOTHED_FROM = 20
"""A line of so many points is drawn as a running mean, its own points faint behind it."""
SHARE = (0.0, 1.0)
"""The domain of a share."""
WIDTH, HEIGHT = 330, 170
PHASES = ("before", "after")
BEFORE, AFTER = "var(--before)", "var(--after)"
PALETTE = [f"var(--c{number})" for number in range(1, 9)]

_AXIS = {
    "labelColor": "var(--muted)", "titleColor": "var(--muted)", "gridColor": "var(--grid)",
    "domainColor": "var(--grid)", "tickColor": "var(--grid)", "labelFontSize": 11,
    "titleFontSize": 11, "titleFontWeight": "normal",
}  # fmt: skip
_CONFIG = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": _AXIS,
    "axisX": {"grid": False, "tickCount": 5},
    "axisY": {"tickCount": 4, "domain": False, "ticks": False},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: (step, value) in order."""

    name: str
    points: Sequence[tuple[float, float]]


_STEPS = {
    "field": "step", "type": "quantitative", "title": None, "scale": {"zero": False, "nice": False},
}  # fmt: skip
"""The axis of training steps."""


def _told_values(drawn: Sequence[Series], unit: str, digits: int) -> list[dict[str, Any]]:
    """The points of all series as rows, each with what a reader is told about it."""
    return [
        {"step": step, "value": value, "series": one.name,
         "told": f"{one.name}: {value:.{digits}g}{unit} (step {step:g})"}
        for one in drawn
        for step, value in _thinned(one.points)
    ]  # fmt: skip


def line_chart(
    series: Sequence[Series],
    unit: str = "",
    domain: tuple[float, float] | None = None,
    *,
    is_smoothed: bool = True,
) -> str:
    """Return lines over training steps as SVG, "" where there is nothing to draw.

    Long lines are drawn as running means, with what was measured faint behind them; tooltips tell
    what was measured.
    """
    drawn = [one for one in series if len(one.points) > 1]
    if not drawn:
        return ""
    names = [one.name for one in drawn]
    scale = {"domain": domain} if domain else {"zero": False}
    encoding = {
        "x": _STEPS,
        "y": {"field": "value", "type": "quantitative", "title": None, "scale": scale},
        "color": _color("series", names, PALETTE),
    }  # fmt: skip
    is_smoothed &= max(len(one.points) for one in drawn) >= SMOOTHED_FROM
    lines = {one.name: _thinned(one.points) for one in drawn}
    means = [Series(n, _running_mean(line) if is_smoothed else line) for n, line in lines.items()]
    mark = {"type": "line", "strokeJoin": "round", "aria": False}
    layers = [
        *([{"mark": {**mark, "strokeWidth": 1, "opacity": 0.28}}] if is_smoothed else []),
        {"mark": {**mark, "strokeWidth": 2}, "data": {"values": _values(means)}},
        _targets(),
    ]
    spec = {
        "data": {"values": _told_values(drawn, unit, digits=4)},
        "encoding": encoding, "layer": layers,
    }  # fmt: skip
    return _svg(spec) + (_legend(names, PALETTE) if len(names) > 1 else "")


def _values(drawn: Sequence[Series]) -> list[dict[str, Any]]:
    return [
        {"step": step, "value": value, "series": one.name}
        for one in drawn
        for step, value in one.points
    ]


def _running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means over each point and its neighbours, a sixth of the line in all; short lines as is.

    >>> _running_mean([(1.0, 0.0), (2.0, 1.0)])
    [(1.0, 0.0), (2.0, 1.0)]
    >>> wave = [(float(step), float(step % 2)) for step in range(24)]
    >>> _running_mean(wave)[12]
    (12.0, 0.4)
    """
    if len(points) < SMOOTHED_FROM:
        return list(points)
    reach = max(1, len(points) // 12)
    return [
        (step, _mean(value for _, value in points[max(0, place - reach) : place + reach + 1]))
        for place, (step, _) in enumerate(points)
    ]


def stacked_chart(series: Sequence[Series], unit: str) -> str:
    """Return stacked areas over training steps, such as the seconds of each phase."""
    drawn = [one for one in series if one.points]
    if not drawn:
        return ""
    values = _told_values(drawn, unit, digits=3)
    names = [one.name for one in drawn]
    encoding = {
        "x": _STEPS,
        "y": {"field": "value", "type": "quantitative", "title": unit.strip(), "stack": True},
        "color": _color("series", names, PALETTE),
        "description": {"field": "told"},
    }  # fmt: skip
    width = max(1.0, WIDTH / max(len(_thinned(one.points)) for one in drawn))
    mark = {"type": "bar", "width": width}
    spec = {"data": {"values": values}, "encoding": encoding, "mark": mark}
    return _svg(spec) + _legend(names, PALETTE)


def interval_chart(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return points with their intervals, before and after on one line a suite.

    A row has `group`, `phase`, `value`, and `low` and `high` where there is an interval.
    """
    if not rows:
        return ""
    values = [{**row, "told": _told(row)} for row in rows]
    shared = {
        "y": {"field": "group", "type": "nominal", "title": None, "sort": None,
              "axis": _labels(rows)},
        "yOffset": {"field": "phase", "type": "nominal", "sort": PHASES},
        "color": _color("phase", PHASES, (BEFORE, AFTER)),
    }  # fmt: skip
    x = {"type": "quantitative", "title": title, "scale": {"domain": [0, 1]}}
    layers = [
        {"mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.45, "aria": False},
         "encoding": {**shared, "x": {**x, "field": "low"}, "x2": {"field": "high"}}},
        {"mark": {"type": "circle", "size": 90, "opacity": 1},
         "encoding": {**shared, "x": {**x, "field": "value"}, "description": {"field": "told"}}},
    ]  # fmt: skip
    groups = len({row["group"] for row in rows})
    spec = {"data": {"values": values}, "layer": layers, "height": 24 + 38 * groups}
    return _svg(spec) + _phases(rows)


def bar_chart(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return bars with their intervals, before beside after; rows as in `interval_chart`.

    A row's `name`, if it has one, says more about its group in the tooltip.
    """
    if not rows:
        return ""
    encoding: dict[str, Any] = {
        "y": {"field": "group", "type": "nominal", "title": None, "sort": None,
              "axis": _labels(rows)},
        "yOffset": {"field": "phase", "type": "nominal", "sort": PHASES},
        "x": {"field": "value", "type": "quantitative", "title": title,
              "scale": {"domain": [0, 1]}},
        "color": _color("phase", PHASES, (BEFORE, AFTER)),
    }  # fmt: skip
    values = [{**row, "told": _told(row)} for row in rows]
    groups = len({row["group"] for row in rows})
    layers = [
        {"mark": {"type": "bar", "cornerRadiusEnd": 2},
         "encoding": {**encoding, "description": {"field": "told"}}},
        {"mark": {"type": "rule", "strokeWidth": 1, "color": "var(--ink)", "aria": False},
         "encoding": {**{key: encoding[key] for key in ("y", "yOffset")},
                      "x": {**encoding["x"], "field": "low"}, "x2": {"field": "high"}}},
    ]  # fmt: skip
    spec = {"data": {"values": values}, "layer": layers, "height": 26 * groups}
    return _svg(spec) + _phases(rows)


def _labels(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An axis with room for its labels, whatever font the reader's machine has."""
    longest = max(len(str(row["group"])) for row in rows)
    return {"labelLimit": 200, "minExtent": 7 * longest, "domain": False, "ticks": False}


def _told(row: Mapping[str, Any]) -> str:
    bounds = f" [{row['low']:.3f}, {row['high']:.3f}]" if row.get("low") is not None else ""
    return f"{row.get('name') or row['group']}, {row['phase']}: {row['value']:.3f}{bounds}"


def _color(field: str, names: Sequence[str], colors: Sequence[str]) -> dict[str, Any]:
    """A colour for each name; the legend is text of the page, whose fonts only it knows."""
    scale = {"domain": list(names), "range": list(colors[: len(names)])}
    return {"field": field, "type": "nominal", "sort": names, "legend": None, "scale": scale}


def _legend(names: Sequence[str], colors: Sequence[str]) -> str:
    items = "".join(
        f'<span><i style="background:{color}"></i>{escape(name)}</span>'
        for name, color in zip(names, colors, strict=False)
    )
    return f'<div class="legend">{items}</div>'


def _phases(rows: Sequence[Mapping[str, Any]]) -> str:
    """The legend of before and after, needed only where there are both."""
    both = len({row["phase"] for row in rows}) > 1
    return _legend(PHASES, (BEFORE, AFTER)) if both else ""


def _targets() -> dict[str, Any]:
    """Invisible points over a line, for the tooltip and for readers of the screen."""
    return {
        "mark": {"type": "circle", "size": 130, "opacity": 0},
        "encoding": {"description": {"field": "told"}},
    }


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points, or means over equal stretches of them where there are too many."""
    size = math.ceil(len(points) / MOST_POINTS)
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(_mean(step for step, _ in s), _mean(value for _, value in s)) for s in stretches]


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)


def _svg(spec: Mapping[str, Any]) -> str:
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": WIDTH, "height": HEIGHT, "background": None, "padding": 2, "config": _CONFIG,
        "autosize": {"type": "fit-x", "contains": "padding"}, **spec,
    }  # fmt: skip
    svg: str = vl_convert.vegalite_to_svg(whole)
    return svg
