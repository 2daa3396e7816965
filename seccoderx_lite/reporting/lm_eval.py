"""Results in the JSON layout of lm-evaluation-harness (0.4), which dashboards and scripts read.

A suite is a task there. Each metric has the key `METRIC,FILTER`: the filter `none` is the sampled
completions, `greedy` the greedy ones. One file has one model.
"""

import time
from collections.abc import Mapping
from importlib.metadata import version

from seccoderx_lite.core.detection_scores import DetectionMetric, JudgeEvaluation
from seccoderx_lite.core.records import Json
from seccoderx_lite.core.scores import CODE_METRICS, CodeScores, Interval, Phase, SuiteResult
from seccoderx_lite.recipe.recipe import Recipe

_WIDTH_95 = 2 * 1.959964
"""Width of a normal distribution's 95% interval in standard errors."""
_RATES: tuple[DetectionMetric, ...] = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "specificity",
    "f1",
)


def code_results(suites: Mapping[str, SuiteResult], recipe: Recipe, phase: Phase) -> Json:
    """Return the results of one model, the one that was measured in this phase."""
    settings = recipe.evaluate
    assert settings is not None
    model = settings.endpoint.model if settings.endpoint else recipe.model.base
    adapter = "" if phase == "before" else f",peft={settings.adapter or 'policy/adapter'}"
    config = {
        "model": "seccoderx-lite",
        "model_args": f"pretrained={model}{adapter}",
        "batch_size": settings.batch_size,
        "limit": settings.limit,
        "random_seed": settings.seed,
        "gen_kwargs": {
            "temperature": settings.temperature,
            "max_gen_toks": settings.max_completion_tokens,
            "repeats": settings.samples,
        },
    }
    tasks = {name: _of_suite(result) for name, result in suites.items()}
    counts = {name: (result.n, result.unscored) for name, result in suites.items()}
    return _document(tasks, counts, config, model)


def judge_results(result: JudgeEvaluation) -> Json:
    """Return the results of a judge on labelled code."""
    name = str(result.judge.get("name", "judge"))
    scores = result.detection
    values: dict[str, Json] = {}
    for rate in _RATES:
        values |= _metric(f"{rate},none", getattr(scores, rate), scores.interval_95.get(rate))
    source = result.data.source
    config = {
        "model": "seccoderx-lite",
        "model_args": dict(result.judge),
        "repeats": result.samples,
    }
    return _document({source: values}, {source: (scores.n, scores.unscored)}, config, name)


def _of_suite(result: SuiteResult) -> dict[str, Json]:
    values = _of_scores(result, "none")
    return {**values, **_of_scores(result.greedy, "greedy")} if result.greedy else values


def _of_scores(scores: CodeScores, kind: str) -> dict[str, Json]:
    values: dict[str, Json] = {}
    for metric in CODE_METRICS:
        interval = scores.interval_95.get(metric)
        values |= _metric(f"{metric},{kind}", scores.value(metric), interval)
    for k, rates in scores.at_k.items():
        for name, value in rates.items():
            values |= _metric(f"{name.replace('@k', f'@{k}')},{kind}", value, None)
    return values


def _metric(key: str, value: float | None, interval: Interval | None) -> dict[str, Json]:
    """A value with its standard error, by the width of its interval; nothing without a value."""
    if value is None:
        return {}
    name, kind = key.split(",")
    error = (interval[1] - interval[0]) / _WIDTH_95 if interval else "N/A"
    return {key: value, f"{name}_stderr,{kind}": error}


def _document(
    tasks: Mapping[str, dict[str, Json]],
    counts: Mapping[str, tuple[int, int]],
    config: Mapping[str, Json],
    model: str,
) -> Json:
    own = version("seccoderx-lite")
    return {
        "results": {
            name: {"alias": name, "sample_len": counts[name][0], **values}
            for name, values in tasks.items()
        },
        "configs": {
            name: {"task": name, "metadata": {"version": own, "unscored": counts[name][1]}}
            for name in tasks
        },
        "versions": dict.fromkeys(tasks, own),
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {
            name: {key.split(",")[0]: True for key in values if "_stderr" not in key}
            for name, values in tasks.items()
        },
        "n-samples": {name: {"original": n, "effective": n} for name, (n, _) in counts.items()},
        "config": dict(config),
        "model_source": "seccoderx-lite",
        "model_name": model,
        "model_name_sanitized": "".join(c if c.isalnum() or c in "._-" else "_" for c in model),
        "date": time.time(),
    }
