"""Does a judge tell vulnerable from safe code at all? Asked where its verdicts leave a doubt."""

import logging
import random
from collections import Counter
from collections.abc import Sequence

from seccoderx_lite.core.errors import DataError, JudgeError
from seccoderx_lite.core.records import LabelledCode, VerdictLabel
from seccoderx_lite.data.loading import load_labelled, validation_or_all
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.judge.loading import LoadedJudge
from seccoderx_lite.training.canaries import balanced

logger = logging.getLogger(__name__)

COUNT = 16
"""Samples that a doubtful judge is asked about, half of them vulnerable."""


def check_that_it_tells_apart(judge: LoadedJudge, given: Sequence[VerdictLabel | None]) -> None:
    """Refuse a judge that gives the same verdict to everything.

    Raises:
        JudgeError: its verdicts on labelled code are all equal, all unclear or all missing.
    """
    if reason := why_it_cannot_judge(judge, given):
        raise JudgeError(reason)


def why_it_cannot_judge(judge: LoadedJudge, given: Sequence[VerdictLabel | None]) -> str | None:
    """Return the reason if a local judge gives the same verdict to everything, else None.

    Such a judge finds nothing or everything, whatever the code is: one of NaN weights, a policy
    adapter, one that was hardly trained. `given` are the labels of its verdicts so far; if they
    differ, nothing is asked. Analysers and servers are not asked.
    """
    if judge.canaries is None or len(set(given)) > 1:
        return None
    rows = balanced(_labelled(judge.canaries), COUNT, random.Random(0))
    items = [CodeToJudge(row.code, row.language, row.cwe) for row in rows]
    verdicts = Counter(verdict.label for verdict in judge.verdicts(items))
    if len(verdicts) != 1:
        return None
    label = next(iter(verdicts))
    what = f"all {len(rows)} verdicts are {label}" if label else "it gave no verdict"
    return (
        f"{judge.name} cannot judge: on labelled code, half of it vulnerable, {what}. Is it the "
        "adapter of a judge? Give the run folder or the adapter of a trained judge, or train this "
        "one longer"
    )


def _labelled(source: str | list[str]) -> list[LabelledCode]:
    try:
        return validation_or_all(load_labelled(source))
    except DataError as error:
        logger.warning("the judge is tried on built-in code, because its own is gone: %s", error)
        return validation_or_all(load_labelled("builtin:tiny"))
