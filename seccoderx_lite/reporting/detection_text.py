"""The evaluation of a judge as text for a terminal."""

from collections.abc import Mapping, Sequence

from seccoderx_lite.core.records import Json

_RATES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "f1": "F1",
}
_PAIRS = {
    "correct": "P-C  pair right",
    "both_vulnerable": "P-V  both vulnerable",
    "both_safe": "P-B  both benign",
    "reversed": "P-R  reversed",
    "unclear": "     a side unclear",
}


def render_evaluation(result: Mapping[str, Json]) -> str:
    """Return tables of every score in an evaluation.json, intervals beside the numbers."""
    scores = result["detection"]
    name, data = result["judge"]["name"], result["data"]["source"]
    parts = [f"{name} on {data}", _counts(result), _rates(scores), _confusion(scores["confusion"])]
    for title, key in (("language", "per_language"), ("weakness", "per_cwe")):
        if len(scores[key]) > 1:
            parts.append(_groups(title, scores[key]))
    if result["pairs"]:
        parts.append(_pairs(result["pairs"]))
    if result["probabilities"]:
        parts.append(_probabilities(result["probabilities"]))
    if result.get("comparison"):
        parts.append(_comparison(result["comparison"], result["judge"]["name"]))
    return "\n\n".join(parts)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns, the first to the left and the others to the right.

    >>> print(table([["a", "1"], ["bcd", "10"]]))
    a     1
    bcd  10
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(bounds: Sequence[float] | None, sign: str = "") -> str:
    return "" if bounds is None else f"[{bounds[0]:{sign}.3f}, {bounds[1]:{sign}.3f}]"


def _counts(result: Mapping[str, Json]) -> str:
    scores = result["detection"]
    told = f"{scores['n']} verdicts, {scores['unclear']} unclear (counted as wrong"
    told += f"; {result['unread']} of them too long to read)" if result["unread"] else ")"
    told += f", {scores['unscored']} unscored (left out)"
    reasons = [f"  {count} x {reason}" for reason, count in result["errors"].items()]
    return "\n".join([told, *reasons])


def _rates(scores: Mapping[str, Json]) -> str:
    rows = [["", "value", "95% interval"]]
    for key, title in _RATES.items():
        rows.append([title, _number(scores[key]), _interval(scores["interval_95"].get(key))])
    return table(rows)


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> str:
    verdicts = ("vulnerable", "safe", "unclear")
    rows = [["truth \\ verdict", *verdicts]]
    rows += [[truth, *(str(row[v]) for v in verdicts)] for truth, row in confusion.items()]
    return table(rows)


def _groups(title: str, groups: Mapping[str, Mapping[str, Json]]) -> str:
    rows = [[title, "n", "accuracy", "95% interval", "recall", "specificity", "F1", "unclear"]]
    for name, of in groups.items():
        interval = _interval(of["interval_95"].get("accuracy"))
        rates = [_number(of[key]) for key in ("recall", "specificity", "f1")]
        rows.append(
            [name, str(of["n"]), _number(of["accuracy"]), interval, *rates, str(of["unclear"])]
        )
    return table(rows)


def _pairs(pairs: Mapping[str, Json]) -> str:
    rows = [[f"{pairs['n']} pairs, {pairs['left_out']} left out", "share", "95% interval"]]
    for key, title in _PAIRS.items():
        share = pairs[key] / pairs["n"]
        rows.append([title, _number(share), _interval(pairs["interval_95"][key])])
    return table(rows)


def _probabilities(scores: Mapping[str, Json]) -> str:
    without = f", {scores['without']} verdicts came without one" if scores["without"] else ""
    head = [
        ["ROC AUC", _number(scores["roc_auc"]), _interval(scores["interval_95"].get("roc_auc"))],
        ["calibration error (ECE)", _number(scores["expected_calibration_error"]), ""],
    ]
    rows = [["probability", "n", "mean", "vulnerable", "95% interval"]]
    for each in scores["bins"]:
        span = f"({each['low']:.1f}, {each['high']:.1f}]"
        numbers = [_number(each["mean_probability"]), _number(each["vulnerable_share"])]
        rows.append([span, str(each["n"]), *numbers, _interval(each["interval_95"])])
    return f"probabilities of {scores['n']} verdicts{without}\n{table(head)}\n\n{table(rows)}"


def _comparison(comparison: Mapping[str, Json], name: str) -> str:
    rows = [[f"{name} minus {comparison['against']}", "difference", "95% interval"]]
    for key, each in comparison["differences"].items():
        rows.append([_RATES[key], f"{each['mean']:+.3f}", _interval(each["interval_95"], "+")])
    left_out = comparison["left_out"]
    note = f"on the {comparison['n']} pieces of code that both judged, {left_out} left out"
    return f"{table(rows)}\n{note}"
