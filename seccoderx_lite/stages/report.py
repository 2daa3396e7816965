"""One self-contained HTML page a run: what was measured, how training went, what it was made with.

Also one page that compares runs. Both are made from the files of the run folders alone.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from seccoderx_lite.core.errors import RunFolderError
from seccoderx_lite.core.records import Json
from seccoderx_lite.evaluation.metrics import CODE_METRICS, TaskScores, mcnemar, paired_difference
from seccoderx_lite.evaluation.suites.asking import GREEDY, Outcome, read_outcomes
from seccoderx_lite.recipe.recipe import deciding_fields, dump_recipe
from seccoderx_lite.reporting.completions import Pairs, rollouts, shortened
from seccoderx_lite.reporting.page import page, safe, section, table
from seccoderx_lite.reporting.results import results
from seccoderx_lite.reporting.text import p_value, share, signed
from seccoderx_lite.reporting.training_curves import comparison_curves, cost, curves
from seccoderx_lite.run import files
from seccoderx_lite.run.folder import RunFolder


def run(folder: RunFolder) -> Path:
    """Write report.html from the files of the run folder and return its path."""
    recipe = folder.recipe
    metrics = list(folder.read_jsonl("metrics.jsonl"))
    kept = [shortened(row) for row in folder.read_jsonl("completions.jsonl")]
    pairs = Pairs()
    for row in folder.read_jsonl("answers.jsonl"):
        pairs.add(row)
    grpo = recipe.policy.grpo if recipe.policy else None
    sampled = grpo.group_size * grpo.prompts_per_step if grpo else None
    environment = _read(folder, "environment.json")
    sections = [
        *results(_read(folder, "evaluation.json")),
        *curves(metrics, kept, sampled),
        pairs.section(),
        rollouts(kept),
        section("recipe", "Recipe", [f"<pre>{safe(dump_recipe(recipe))}</pre>"]),
        section("environment", "Environment", [_environment(environment)]),
    ]
    facts = [recipe.model.base, f"seed {recipe.seed}", *cost(metrics, environment)]
    subtitle = " &middot; ".join(map(safe, facts))
    return folder.write_text("report.html", page(recipe.name, subtitle, sections))


def write_comparison(folders: Sequence[RunFolder], file: Path) -> Path:
    """Write one page that compares runs with the first of them, and return its path."""
    names = _names(folders)
    runs = dict(zip(names, folders, strict=True))
    metrics = {name: list(f.read_jsonl("metrics.jsonl")) for name, f in runs.items()}
    sections = [
        section("result", "Result", [_comparison_table(runs)], "After alignment where there is a "
                "policy. Second lines are differences from the first run, paired over the tasks "
                "that both measured; 95% bootstrap intervals, McNemar\u2019s exact test on strict "
                "func-sec of one completion a task."),
        comparison_curves(metrics),
        section("recipe", "What differs in the recipes", [_recipe_table(runs)]),
    ]  # fmt: skip
    text = page("Comparison of runs", safe(", ".join(names)), sections)
    return files.write_text(file, text).resolve()


def _read(folder: RunFolder, name: str) -> dict[str, Json]:
    try:
        data: dict[str, Json] = folder.read_json(name)
    except RunFolderError:
        return {}
    return data


def _environment(data: Mapping[str, Json]) -> str:
    return f"<pre>{safe(json.dumps(data, indent=2))}</pre>" if data else ""


def _names(folders: Sequence[RunFolder]) -> list[str]:
    """Names of runs; numbered where two are the same."""
    names: list[str] = []
    for folder in folders:
        name = folder.path.name
        same = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return names


def _comparison_table(runs: Mapping[str, RunFolder]) -> str:
    scores = {name: _task_scores(folder) for name, folder in runs.items()}
    found = {name: _last_phase(folder) for name, folder in runs.items()}
    first = next(iter(runs))
    rows: list[list[str]] = []
    for suite in dict.fromkeys(suite for own in found.values() for suite in own):
        rows.append([safe(suite)])
        for name, suites in found.items():
            if own := suites.get(suite):
                mine = {} if name == first else scores[name].get(suite, {})
                changes = _changes(scores[first].get(suite, {}), mine)
                cells = [
                    safe(share(own[key], own["interval_95"].get(key))) + changes.get(key, "")
                    for key in ("functional", "secure", "esr")
                ]
                rows.append([safe(name), *cells, str(own["n"]), str(own["unscored"])])
    return table(["run", "functional", "secure", "ESR", "tasks", "unscored"], rows)


def _last_phase(folder: RunFolder) -> dict[str, Json]:
    evaluation = _read(folder, "evaluation.json")
    return evaluation.get("after") or evaluation.get("before") or {}


def _task_scores(folder: RunFolder) -> dict[str, dict[str, TaskScores]]:
    """The sampled scores of the last phase, by suite and task."""
    outcomes = read_outcomes(folder)
    phase = "after" if any(key[0] == "after" for key in outcomes) else "before"
    samples: dict[tuple[str, str], list[Outcome]] = {}
    for own, suite, task, sample in sorted(outcomes):
        if own == phase and sample != GREEDY:
            samples.setdefault((suite, task), []).append(outcomes[own, suite, task, sample])
    found: dict[str, dict[str, TaskScores]] = {}
    for (suite, task), own_samples in samples.items():
        scores = TaskScores(task, (), tuple(outcome.score for outcome in own_samples))
        found.setdefault(suite, {})[task] = scores
    return found


def _changes(theirs: Mapping[str, TaskScores], mine: Mapping[str, TaskScores]) -> dict[str, str]:
    """What follows a figure: its paired difference from the first run, where there is one."""
    shared = sorted(mine.keys() & theirs.keys())
    before, after = ([own[task] for task in shared] for own in (theirs, mine))
    found: dict[str, str] = {}
    for metric in CODE_METRICS:
        try:
            change = paired_difference(before, after, metric, seed=0)
        except ValueError:  # no task in common, or benign tasks, which have no such metric
            continue
        told = signed({"mean": change.mean, "interval_95": change.interval_95})
        if metric == "esr":
            passes = (list(map(_passes, side)) for side in (before, after))
            told += f", McNemar {p_value(mcnemar(*passes).p)}"
        found[metric] = f"<br><small>{safe(told)}</small>"
    return found


def _passes(task: TaskScores) -> bool | None:
    """Strict func-sec of the first sample."""
    value = task.samples[0].func_sec if task.samples[0] else None
    return None if value is None else value == 1.0


def _recipe_table(runs: Mapping[str, RunFolder]) -> str:
    fields = {name: deciding_fields(folder.recipe) for name, folder in runs.items()}
    rows = [
        [safe(key), *(safe(own.get(key, "-")) for own in fields.values())]
        for key in dict.fromkeys(key for own in fields.values() for key in own)
        if len({repr(own.get(key)) for own in fields.values()}) > 1
    ]
    return table(["field", *runs], rows, 9) if rows else ""
