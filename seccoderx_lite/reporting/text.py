"""An evaluation in lines of text; never a difference without its interval."""

from collections.abc import Iterator, Mapping, Sequence

from seccoderx_lite.core.records import Json

TOLD = (("functional", "functional"), ("secure", "secure"), ("esr", "ESR"))


def describe_evaluation(evaluation: Mapping[str, Json]) -> Iterator[str]:
    """Yield lines that tell an evaluation.json: per suite, phase and difference."""
    suites = dict.fromkeys(
        suite for phase in ("before", "after") for suite in evaluation.get(phase, {})
    )
    for suite in suites:
        yield suite
        for phase in ("before", "after"):
            if scores := evaluation.get(phase, {}).get(suite):
                yield f"  {phase:<11}{_scores(scores)}"
        if changes := evaluation.get("difference", {}).get(suite):
            yield f"  {'difference':<11}{_changes(changes)}"


def share(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a share with its interval, "-" where it has no value.

    >>> share(0.5, [0.4, 0.6]), share(None)
    ('0.500 [0.400, 0.600]', '-')
    """
    if value is None:
        return "-"
    bounds = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{value:.3f}{bounds}"


def signed(change: Mapping[str, Json] | None) -> str:
    """Return a difference with its interval, "-" where it has no value."""
    if not change:
        return "-"
    bounds = change["interval_95"]
    told = f" [{bounds[0]:+.3f}, {bounds[1]:+.3f}]" if bounds else " (too few tasks to be sure)"
    return f"{change['mean']:+.3f}{told}"


def p_value(p: float) -> str:
    """Return a p-value as it is usually written.

    >>> p_value(0.0000001), p_value(0.0421)
    ('p < 0.001', 'p = 0.042')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _scores(scores: Mapping[str, Json]) -> str:
    parts = [
        f"{name} {share(scores[key], scores['interval_95'].get(key))}"
        for key, name in TOLD
        if scores[key] is not None
    ]
    told = f"{scores['n']} tasks, {scores['n_samples']} samples, {scores['unscored']} unscored"
    return f"{', '.join(parts) or 'nothing could be scored'}  ({told})"


def _changes(changes: Mapping[str, Json]) -> str:
    parts = [f"{name} {signed(changes[key])}" for key, name in TOLD if key in changes]
    if test := changes.get("mcnemar"):
        parts.append(
            f"func-sec: {test['gained']} tasks gained, {test['lost']} lost, "
            f"McNemar {p_value(test['p'])}"
        )
    return ", ".join(parts)
