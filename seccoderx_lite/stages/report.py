"""One self-contained HTML page a run: what was measured, how training went, what it was made with.

Everything a model wrote is escaped. Curves are drawn as inline SVG, so the page needs no network.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from seccoderx_lite.errors import RunFolderError
from seccoderx_lite.records import Json
from seccoderx_lite.run_folder import RunFolder

CURVES = (
    ("policy", "reward", "reward"),
    ("policy", "rollout_esr", "ESR of the rollouts"),
    ("policy", "functional_share", "functional tests passed"),
    ("policy", "judged_safe_share", "judged safe"),
    ("policy", "reward_hacking", "judged safe but fell to an attack"),
    ("policy", "kl", "KL against the base"),
    ("policy", "completion_length", "completion length (tokens)"),
    ("align", "accuracy", "judge: accuracy while aligned"),
    ("cold_start", "loss", "judge: loss of the cold start"),
)
EXAMPLES = 6

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #8884; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; }
figcaption { font-size: .85rem; }
pre { overflow-x: auto; background: #8881; padding: .75rem; border-radius: .5rem; }
svg { background: #8881; border-radius: .5rem; }
polyline { fill: none; stroke: #2a7; stroke-width: 1.5; }
"""


def run(folder: RunFolder) -> Path:
    """Write report.html from the files of the run folder and return its path."""
    metrics = list(folder.read_jsonl("metrics.jsonl"))
    parts = [
        f"<h1>{escape(folder.recipe.name)}</h1>",
        *_alarms(metrics),
        *_evaluation(_read(folder, "evaluation.json")),
        "<h2>Training</h2>",
        *_curves(metrics),
        *_examples(list(folder.read_jsonl("completions.jsonl"))),
        "<h2>Recipe</h2>",
        f"<pre>{escape((folder.path / 'recipe.yaml').read_text('utf-8'))}</pre>",
        "<h2>Environment</h2>",
        f"<pre>{escape(json.dumps(_read(folder, 'environment.json'), indent=2))}</pre>",
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(folder.recipe.name)}</title><style>{STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>"
    )
    return folder.write_text("report.html", page)


def _read(folder: RunFolder, name: str) -> dict[str, Json]:
    try:
        data: dict[str, Json] = folder.read_json(name)
    except RunFolderError:
        return {}
    return data


def _alarms(metrics: Sequence[Mapping[str, Json]]) -> Iterable[str]:
    raised = [(row["step"], message) for row in metrics for message in row.get("alarms") or []]
    if raised:
        yield "<h2>Alarms</h2><ul>"
        yield from (f"<li>step {step}: {escape(message)}</li>" for step, message in raised[-20:])
        yield "</ul>"


def _evaluation(evaluation: Mapping[str, Json]) -> Iterable[str]:
    if not evaluation:
        return
    yield "<h2>Measured on held-out tasks</h2><table><tr><th>suite</th><th></th>"
    names = ("functional", "secure", "esr", "func_sec")
    yield "".join(f"<th>{name}</th>" for name in names) + "<th>tasks</th><th>unscored</th></tr>"
    for phase in ("before", "after"):
        for suite, scores in evaluation.get(phase, {}).items():
            cells = "".join(
                f'<td class="number">{_share(scores[name], scores["interval_95"].get(name))}</td>'
                for name in names
            )
            yield f"<tr><td>{escape(suite)}</td><td>{phase}</td>{cells}"
            yield f'<td class="number">{scores["n"]}</td>'
            yield f'<td class="number">{scores["unscored"]}</td></tr>'
    for suite, metrics in evaluation.get("difference", {}).items():
        cells = "".join(f'<td class="number">{_signed(metrics.get(name))}</td>' for name in names)
        yield f"<tr><td>{escape(suite)}</td><td>difference</td>{cells}<td></td><td></td></tr>"
    yield "</table><p>Sampled completions; 95% bootstrap intervals over tasks, "
    yield "paired for differences.</p>"


def _share(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "&ndash;"
    bounds = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{value:.3f}{bounds}"


def _signed(change: Mapping[str, Json] | None) -> str:
    if not change:
        return "&ndash;"
    bounds = change["interval_95"]
    told = f" [{bounds[0]:+.3f}, {bounds[1]:+.3f}]" if bounds else ""
    return f"{change['mean']:+.3f}{told}"


def _curves(metrics: Sequence[Mapping[str, Json]]) -> Iterable[str]:
    for stage, key, caption in CURVES:
        points = [
            (float(row["step"]), float(row[key]))
            for row in metrics
            if row["stage"] == stage and row.get(key) is not None
        ]
        if len(points) > 1:
            yield _curve(points, caption)


def _curve(points: Sequence[tuple[float, float]], caption: str) -> str:
    width, height, margin = 280, 90, 6
    steps, values = [step for step, _ in points], [value for _, value in points]
    low, high = min(values), max(values)
    across = (max(steps) - min(steps)) or 1.0
    up = (high - low) or 1.0
    line = " ".join(
        f"{margin + (step - min(steps)) / across * (width - 2 * margin):.1f},"
        f"{height - margin - (value - low) / up * (height - 2 * margin):.1f}"
        for step, value in points
    )
    return (
        f'<figure><svg width="{width}" height="{height}" role="img" aria-label="{escape(caption)}">'
        f'<polyline points="{line}"/></svg><figcaption>{escape(caption)}: {low:.3g} to {high:.3g}, '
        f"last {values[-1]:.3g}</figcaption></figure>"
    )


def _examples(completions: Sequence[Mapping[str, Json]]) -> Iterable[str]:
    if not completions:
        return
    yield "<h2>Rollouts of the last steps</h2>"
    for row in completions[-EXAMPLES:]:
        told = (
            f"step {row['step']}, {row['task']}: reward {row['reward']}, judged {row['verdict']}, "
        )
        yield f"<h3>{escape(told + 'tests ' + str(row['tests']))}</h3>"
        yield f"<p>{escape(row['prompt'])}</p><pre>{escape(row['completion'])}</pre>"
