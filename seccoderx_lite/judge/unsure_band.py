"""The band of probabilities in which `cascade` asks for reasoning, and its calibration."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Verdict

UNSURE_BAND = (0.1, 0.9)
"""Default band; `judge.unsure` in the recipe or the judge's calibration override it."""

SETTINGS_FILE = "judge.json"
"""File in the folder of a trained judge adapter that says how to ask the judge."""


def after_reasoning(direct: Verdict, reasoned: Verdict) -> Verdict:
    """The reasoned verdict with the direct one's confidence; the direct one if that is unclear.

    If the two differ, p_vulnerable is mirrored: 0.6 becomes 0.4.
    """
    p = direct.p_vulnerable
    if reasoned.label in (None, "unclear") or p is None:
        return replace(direct, reasoning=reasoned.reasoning)
    return replace(reasoned, p_vulnerable=p if reasoned.label == direct.label else 1.0 - p)


MAX_REASONED_SHARE = 0.05
"""Largest share of the validation code that a calibrated cascade reasons about."""


def calibrated_band(
    probabilities: Sequence[float],
    reasoned_right: Sequence[bool],
    direct_right: Sequence[bool],
    share: float = MAX_REASONED_SHARE,
) -> tuple[float, float]:
    """Return the band around 0.5 in which reasoning pays off, measured on labelled code.

    It is the most accurate of the bands that hold at most that share of the code. Of equally
    accurate bands, it is the one closest to `UNSURE_BAND`, because the judge is less sure of code
    unlike its training data.

    Args:
        probabilities: Direct probability of "vulnerable" for each piece of code.
        reasoned_right: Whether the verdict after reasoning is right, for each piece.
        direct_right: Whether the direct verdict is right, for each piece.
        share: Largest share of the code, in [0, 1), to reason about.

    >>> probabilities = [0.7, 0.2] + [0.0, 1.0] * 19
    >>> band = calibrated_band(probabilities, [True] * 40, [False] + [True] * 39)
    >>> [round(edge, 3) for edge in band]
    [0.1, 0.9]
    >>> band = calibrated_band(probabilities, [False] * 40, [True] * 40)
    >>> [round(edge, 3) for edge in band]
    [0.4, 0.6]
    """
    default = UNSURE_BAND[1] - 0.5
    order = sorted(range(len(probabilities)), key=lambda at: abs(probabilities[at] - 0.5))
    # Rounded, so that 0.3 and 0.7 are at the same distance.
    distances = [0.0, *(round(abs(probabilities[at] - 0.5), 9) for at in order), 0.5]
    gain = best = 0
    half_width = 0.0
    for count in range(int(share * len(order)) + 1):
        if count:
            gain += reasoned_right[order[count - 1]] - direct_right[order[count - 1]]
        inner, outer = distances[count], distances[count + 1]
        if inner == outer:  # a band cannot separate equal distances
            continue
        width = default if inner < default < outer else (inner + outer) / 2
        if gain > best or (gain == best and abs(width - default) < abs(half_width - default)):
            best, half_width = gain, width
    return 0.5 - half_width, 0.5 + half_width


def unsure_band(adapter: Path | None) -> tuple[float, float]:
    """Return the calibrated unsure band of a judge adapter, or the default band.

    Raises:
        DataError: the adapter's judge.json cannot be read.
    """
    file = adapter / SETTINGS_FILE if adapter else None
    if file is None or not file.is_file():
        return UNSURE_BAND
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        low, high = map(float, settings.get("unsure", UNSURE_BAND))
        if not 0 <= low <= high <= 1:  # false for NaN
            raise ValueError(f"got {low} and {high}")
        return low, high
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(
            f"{file}: `unsure` must be two numbers ({error}); set judge.unsure, or delete the file"
        ) from error
