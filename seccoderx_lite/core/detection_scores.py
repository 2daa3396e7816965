"""What an evaluation of a judge measured, as records of its evaluation.json.

How the numbers are computed is in `evaluation.detection` and `evaluation.calibration`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from seccoderx_lite.core.records import Json
from seccoderx_lite.core.scores import Interval

DetectionMetric = Literal[
    "accuracy", "precision", "recall", "specificity", "f1", "balanced_accuracy"
]
PairOutcome = Literal["correct", "both_vulnerable", "both_safe", "reversed", "unclear"]
PAIR_OUTCOMES: tuple[PairOutcome, ...] = (
    "correct",
    "both_vulnerable",
    "both_safe",
    "reversed",
    "unclear",
)


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """The usual rates of a detector, with vulnerable code as the positive class.

    A rate is None where it is undefined, such as recall without any vulnerable code.
    """

    accuracy: float | None
    precision: float | None
    recall: float | None
    specificity: float | None
    """Recall of the safe class."""
    f1: float | None
    balanced_accuracy: float | None
    """Mean of recall and specificity."""
    n: int
    """Verdicts that count."""
    unclear: int
    """Verdicts that were neither; each is counted as wrong."""
    unscored: int
    """Samples without a verdict because of an internal error; excluded from everything above."""
    confusion: Mapping[str, Mapping[str, int]]
    """Truth ("vulnerable", "safe"), then verdict ("vulnerable", "safe", "unclear")."""
    interval_95: Mapping[DetectionMetric, Interval]
    """Of each rate that has a value."""
    per_language: Mapping[str, "DetectionScores"] = field(default_factory=dict)
    per_cwe: Mapping[str, "DetectionScores"] = field(default_factory=dict)
    """The same per weakness; code with several weaknesses counts once in each."""


@dataclass(frozen=True, slots=True)
class PairScores:
    """PrimeVul's pairwise metrics: counts of pairs of vulnerable code and its fix."""

    correct: int
    """P-C: the vulnerable side is called vulnerable, the fixed side safe."""
    both_vulnerable: int
    """P-V."""
    both_safe: int
    """P-B: both called benign."""
    reversed: int
    """P-R: the vulnerable side is called safe, the fixed side vulnerable."""
    unclear: int
    """Pairs with an unclear side; counted in `n`, and never correct."""
    n: int
    left_out: int
    """Pairs with an unscored side, and groups that are not one vulnerable and one safe side."""
    interval_95: Mapping[PairOutcome, Interval] = field(default_factory=dict)
    """Of each count as a share of `n`; empty without pairs."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The code whose probability is in (low, high]; the first bin includes its lower end."""

    low: float
    high: float
    n: int
    mean_probability: float
    vulnerable_share: float
    """Share of this code that is vulnerable; equal to the mean probability if calibrated."""
    interval_95: Interval
    """Of the vulnerable share."""


@dataclass(frozen=True, slots=True)
class ProbabilityScores:
    """Ranking and calibration of the probabilities that code is vulnerable."""

    roc_auc: float | None
    """Chance that vulnerable code gets a higher probability than safe code; ties count half."""
    expected_calibration_error: float
    bins: Sequence[ReliabilityBin]
    n: int
    without: int
    """Samples whose verdict has no probability."""
    interval_95: Mapping[Literal["roc_auc"], Interval]
    """By bootstrap over pairs."""


@dataclass(frozen=True, slots=True)
class RateDifference:
    """How much better the first of two judges is than the second, on the same code."""

    mean: float
    """First minus second."""
    interval_95: Interval | None
    """By paired bootstrap; a difference is significant if it excludes 0."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two judges on the same code."""

    against: str
    """Name of the second judge."""
    differences: Mapping[DetectionMetric, RateDifference]
    """Accuracy, F1 and balanced accuracy, where both judges have them."""
    n: int
    left_out: int
    """Samples that one of the two left unscored."""


@dataclass(frozen=True, slots=True)
class LabelledData:
    """Which labelled code a judge was measured on."""

    source: str
    n: int
    digest: str


@dataclass(frozen=True, slots=True)
class JudgeEvaluation:
    """The content of evaluation.json of a judge."""

    judge: Mapping[str, Json]
    """Its name, and every setting that decides its verdicts."""
    data: LabelledData
    samples: int
    """Verdicts per sample of code; the majority counts."""
    detection: DetectionScores
    pairs: PairScores | None
    """None without pairs."""
    probabilities: ProbabilityScores | None
    """None if no verdict has a probability."""
    unread: int
    """Unclear verdicts on code that is too long for the judge; counted as wrong."""
    errors: Mapping[str, int]
    """Why code stayed unscored, and how often."""
    asked: int
    """Verdicts of this call; the others were stored by earlier ones."""
    seconds: float
    comparison: Comparison | None = None
    refusal: str | None = None
    """Why this is no judge: it gives everything the same verdict."""

    def as_json(self) -> dict[str, Json]:
        """Return the content of evaluation.json."""
        data = asdict(self)
        for name in ("comparison", "refusal"):
            if data[name] is None:
                del data[name]
        return data
