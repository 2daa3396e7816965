"""Charts as inline SVG, drawn by Vega-Lite, in the page's colours for light and dark mode.

Every point carries its value as an aria-label, which the page shows as a tooltip.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from seccoderx_lite.core.scores import PHASES, Interval, Phase
from seccoderx_lite.reporting.chart_engine import ChartEngine
from seccoderx_lite.reporting.page import render

MOST_POINTS = 120
"""Most points of one line; longer runs are averaged over neighbouring steps."""
SMOOTHED_FROM = 20
"""A line of at least this many points is drawn as a running mean, with its own points faint."""
SHARE = (0.0, 1.0)
"""The domain of a share."""
UNITS = ("nats per token", "tokens", "tokens per second", "seconds", "GiB")
"""Titles of the vertical axis that are units, which tooltips repeat."""
WIDTH, HEIGHT = 330, 170
_PHASE_COLORS: dict[Phase, str] = {
    "before": "var(--before)",
    "warm_start": "var(--through)",
    "after": "var(--after)",
}
PALETTE = [f"var(--c{number})" for number in range(1, 9)]

_AXIS = {
    "labelColor": "var(--muted)",
    "titleColor": "var(--muted)",
    "gridColor": "var(--grid)",
    "domainColor": "var(--grid)",
    "tickColor": "var(--grid)",
    "labelFontSize": 11,
    "titleFontSize": 11,
    "titleFontWeight": "normal",
}
_CONFIG = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": _AXIS,
    "axisX": {"grid": False, "tickCount": 5},
    "axisY": {"tickCount": 4, "domain": False, "ticks": False},
}
_STEPS = {
    "field": "step",
    "type": "quantitative",
    "title": "optimiser step",
    "scale": {"zero": False, "nice": False},
}
"""The axis of training steps."""
_TARGETS = {
    "mark": {"type": "circle", "size": 130, "opacity": 0},
    "encoding": {"description": {"field": "tooltip"}},
}
"""Invisible points over a line, for the tooltip and for screen readers."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: (step, value) in order."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """One value with its interval, in one phase; a group has one line with a value per phase."""

    group: str
    phase: Phase
    value: float
    interval: Interval | None
    name: str = ""
    """Longer name of the group, for the tooltip."""

    def row(self) -> dict[str, Any]:
        """Return the data of the chart."""
        low, high = self.interval or (None, None)
        bounds = f" [{low:.3f}, {high:.3f}]" if self.interval else ""
        return {
            "group": self.group,
            "phase": self.phase,
            "value": self.value,
            "low": low,
            "high": high,
            "tooltip": f"{self.name or self.group}, {self.phase}: {self.value:.3f}{bounds}",
        }


def line_chart(
    series: Sequence[Series],
    axis: str = "",
    domain: tuple[float, float] | None = None,
    *,
    is_smoothed: bool = True,
) -> Markup:
    """Return lines over training steps as SVG, "" if there is nothing to draw.

    Long lines are drawn as running means, with the measured values faint behind them; tooltips
    show the measured values.
    """
    drawn = [one for one in series if len(one.points) > 1]
    if not drawn:
        return Markup()
    names = [one.name for one in drawn]
    scale = {"domain": domain} if domain else {"zero": False}
    encoding = {
        "x": _STEPS,
        "y": {"field": "value", "type": "quantitative", "title": axis, "scale": scale},
        "color": _color("series", names, PALETTE),
    }
    is_smoothed &= max(len(one.points) for one in drawn) >= SMOOTHED_FROM
    thinned = {one.name: _thinned(one.points) for one in drawn}
    means = [
        {"step": step, "value": value, "series": name}
        for name, points in thinned.items()
        for step, value in (_running_mean(points) if is_smoothed else points)
    ]
    mark = {"type": "line", "strokeJoin": "round", "aria": False}
    layers = [
        *([{"mark": {**mark, "strokeWidth": 1, "opacity": 0.28}}] if is_smoothed else []),
        {"mark": {**mark, "strokeWidth": 2}, "data": {"values": means}},
        _TARGETS,
    ]
    values = _rows_with_tooltips(drawn, axis, digits=4)
    svg = _svg({"data": {"values": values}, "encoding": encoding, "layer": layers})
    return svg + (_legend(names, PALETTE) if len(names) > 1 else "")


def _rows_with_tooltips(drawn: Sequence[Series], axis: str, digits: int) -> list[dict[str, Any]]:
    unit = f" {axis}" if axis in UNITS else ""
    return [
        {
            "step": step,
            "value": value,
            "series": one.name,
            "tooltip": f"{one.name}: {value:.{digits}g}{unit} (step {step:g})",
        }
        for one in drawn
        for step, value in _thinned(one.points)
    ]


def _running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means over each point and its neighbours, a sixth of the line; short lines unchanged.

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


def stacked_chart(series: Sequence[Series], axis: str) -> Markup:
    """Return stacked areas over training steps, such as the seconds per phase."""
    drawn = [one for one in series if one.points]
    if not drawn:
        return Markup()
    names = [one.name for one in drawn]
    encoding = {
        "x": _STEPS,
        "y": {"field": "value", "type": "quantitative", "title": axis, "stack": True},
        "color": _color("series", names, PALETTE),
        "description": {"field": "tooltip"},
    }
    width = max(1.0, WIDTH / max(len(_thinned(one.points)) for one in drawn))
    values = _rows_with_tooltips(drawn, axis, digits=3)
    mark = {"type": "bar", "width": width}
    svg = _svg({"data": {"values": values}, "encoding": encoding, "mark": mark})
    return svg + _legend(names, PALETTE)


def interval_chart(bars: Sequence[Bar], title: str) -> Markup:
    """Return points with their intervals, one line per group with a point per phase."""
    point = {"type": "circle", "size": 90, "opacity": 1}
    rule = {"type": "rule", "strokeWidth": 3, "opacity": 0.45, "aria": False}
    return _group_chart(bars, title, [(rule, True), (point, False)], margin=24, height=38)


def bar_chart(bars: Sequence[Bar], title: str) -> Markup:
    """Return bars with their intervals, one per phase of each group."""
    bar = {"type": "bar", "cornerRadiusEnd": 2}
    rule = {"type": "rule", "strokeWidth": 1, "color": "var(--ink)", "aria": False}
    return _group_chart(bars, title, [(bar, False), (rule, True)], margin=0, height=26)


def _group_chart(
    bars: Sequence[Bar],
    title: str,
    marks: Sequence[tuple[dict[str, Any], bool]],
    margin: int,
    height: int,
) -> Markup:
    """Values by group and phase; each mark shows the values or (True) their intervals."""
    if not bars:
        return Markup()
    groups = {bar.group for bar in bars}
    # Room for the labels, whatever font the reader's machine has.
    axis = {
        "labelLimit": 200,
        "minExtent": 7 * max(map(len, groups)),
        "domain": False,
        "ticks": False,
    }
    x = {"type": "quantitative", "title": title, "scale": {"domain": SHARE}}
    shown = [phase for phase in PHASES if any(bar.phase == phase for bar in bars)]
    colors = [_PHASE_COLORS[phase] for phase in shown]
    color = _color("phase", shown, colors)
    layers = []
    for mark, is_interval in marks:
        encoding: dict[str, Any] = {
            "y": {"field": "group", "type": "nominal", "title": None, "sort": None, "axis": axis},
            "yOffset": {"field": "phase", "type": "nominal", "sort": shown},
        }
        if "color" not in mark:
            encoding["color"] = color
        if is_interval:
            encoding |= {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
        else:
            encoding |= {"x": {**x, "field": "value"}, "description": {"field": "tooltip"}}
        layers.append({"mark": mark, "encoding": encoding})
    values = [bar.row() for bar in bars]
    spec = {"data": {"values": values}, "layer": layers, "height": margin + height * len(groups)}
    return _svg(spec) + (_legend(shown, colors) if len(shown) > 1 else "")


def _color(field: str, names: Sequence[str], colors: Sequence[str]) -> dict[str, Any]:
    # The legend is HTML, because only the page knows its fonts.
    scale = {"domain": list(names), "range": list(colors[: len(names)])}
    return {"field": field, "type": "nominal", "sort": names, "legend": None, "scale": scale}


def _legend(names: Sequence[str], colors: Sequence[str]) -> Markup:
    return render("legend", entries=list(zip(colors, names, strict=False)))


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points, or means over equal stretches of them where there are too many."""
    size = math.ceil(len(points) / MOST_POINTS)
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(_mean(step for step, _ in s), _mean(value for _, value in s)) for s in stretches]


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)


def _svg(spec: Mapping[str, Any]) -> Markup:
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": WIDTH,
        "height": HEIGHT,
        "background": None,
        "padding": 2,
        "config": _CONFIG,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **spec,
    }
    svg = _ENGINE.svg(whole)
    return Markup(svg) if svg is not None else Markup("<p>This chart could not be drawn.</p>")


_ENGINE = ChartEngine()
