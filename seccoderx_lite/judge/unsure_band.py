"""The band of probabilities in which a cascade asks for reasoning, and how it is calibrated."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Verdict

if TYPE_CHECKING:  # these import torch
    pass

UNSURE_BAND = (0.1, 0.9)
"""Where `cascade` asks for reasoning, unless the recipe or the judge's calibration says else."""

SETTINGS_FILE = "judge.json"
"""Lies beside a trained judge adapter and says how to ask it."""


def after_reasoning(direct: Verdict, reasoned: Verdict) -> Verdict:
    """The reasoned verdict, as sure of it as the direct one was; if it is unclear, the direct one.

    Where the two differ, p_vulnerable changes sides: 0.6 becomes 0.4.
    """
    p = direct.p_vulnerable
    if reasoned.label in (None, "unclear") or p is None:
        return replace(direct, reasoning=reasoned.reasoning)
    return replace(reasoned, p_vulnerable=p if reasoned.label == direct.label else 1.0 - p)


REASONED_SHARE = 0.05
"""Most of the validation code that a calibrated cascade reasons about: keeps it cheap."""


def calibrated_band(
    probabilities: Sequence[float],
    reasoned_right: Sequence[bool],
    direct_right: Sequence[bool],
    share: float = REASONED_SHARE,
) -> tuple[float, float]:
    """Return the band around 0.5 in which to reason, found on code with known truth.

    Of the bands that hold at most that share of the code, the most accurate one; of equally
    accurate ones that nearest to `UNSURE_BAND`: code of other kinds is less sure than this one.

    Args:
        probabilities: Direct probability of vulnerable of each piece of code.
        reasoned_right: Whether the verdict after reasoning about it is right.
        direct_right: Whether the direct verdict on it is right.
        share: Most of the code, in [0, 1), that may be reasoned about.

    >>> probabilities = [0.7, 0.2] + [0.0, 1.0] * 19
    >>> band = calibrated_band(probabilities, [True] * 40, [False] + [True] * 39)
    >>> [round(edge, 3) for edge in band]
    [0.1, 0.9]
    >>> band = calibrated_band(probabilities, [False] * 40, [True] * 40)
    >>> [round(edge, 3) for edge in band]
    [0.4, 0.6]
    """
    usual = UNSURE_BAND[1] - 0.5
    order = sorted(range(len(probabilities)), key=lambda at: abs(probabilities[at] - 0.5))
    # Rounded, so that 0.3 and 0.7 are equally far.
    distances = [0.0, *(round(abs(probabilities[at] - 0.5), 9) for at in order), 0.5]
    gain = best = 0
    half_width = 0.0
    for count in range(int(share * len(order)) + 1):
        if count:
            gain += reasoned_right[order[count - 1]] - direct_right[order[count - 1]]
        inner, outer = distances[count], distances[count + 1]
        if inner == outer:  # what is equally sure stays together
            continue
        width = usual if inner < usual < outer else (inner + outer) / 2
        if gain > best or (gain == best and abs(width - usual) < abs(half_width - usual)):
            best, half_width = gain, width
    return 0.5 - half_width, 0.5 + half_width


def unsure_band(adapter: Path | None) -> tuple[float, float]:
    """Return the unsure band that was calibrated for a judge adapter, or the default one.

    Raises:
        DataError: the settings beside the adapter cannot be read.
    """
    file = adapter / SETTINGS_FILE if adapter else None
    if file is None or not file.is_file():
        return UNSURE_BAND
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        low, high = settings.get("unsure", UNSURE_BAND)
        return float(low), float(high)
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"{file}: no readable unsure band ({error}); set judge.unsure, or delete the file"
        ) from error
