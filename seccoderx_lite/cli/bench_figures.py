"""The figures of `bench`: medians per layout, comparisons between layouts, and their table."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date

from seccoderx_lite.core.records import Json

LAYOUTS = ("shared", "two models", "no judge")
PHASES = ("rollout", "reference", "judge", "tests", "update", "step")


@dataclass(frozen=True, slots=True)
class LayoutFigures:
    """What one layout takes, over the steps of all its runs."""

    seconds: dict[str, float]
    """Median seconds per phase of a step."""
    tokens_per_s: float
    """Completion tokens per second of a whole step."""
    rollout_tokens_per_s: float
    """Completion tokens per second of the phase that samples them."""
    peak_memory_bytes: int
    estimated_peak_bytes: int | None = None
    """What `estimate` expects, without CUDA's own memory; None without a GPU."""


def figures_of(
    rows: Sequence[Mapping[str, Json]], estimated_peak_bytes: int | None
) -> LayoutFigures:
    """Return the medians over records of `metrics.jsonl`, and the highest peak."""
    seconds = {
        phase: statistics.median(row["seconds"].get(phase, 0.0) for row in rows) for phase in PHASES
    }
    whole = [
        row["tokens_per_s"] * row["seconds"]["rollout"] / row["seconds"]["step"] for row in rows
    ]
    return LayoutFigures(
        seconds,
        round(statistics.median(whole), 1),
        statistics.median(row["tokens_per_s"] for row in rows),
        max(row["peak_memory_bytes"] for row in rows),
        estimated_peak_bytes,
    )


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The figures of the layouts that were measured, and comparisons between them."""

    layouts: Mapping[str, LayoutFigures]
    rollouts: int
    """Per step."""
    base: str = ""
    machine: str = ""
    """Name of the GPU, or CPU."""
    memory_bytes: int | None = None
    """GPU memory that a run was allowed to use; None for all of it."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Layouts that ran out of memory, and the message."""

    def as_json(self) -> dict[str, Json]:
        """Return the figures and the comparisons."""
        return asdict(self) | {
            "date": date.today().isoformat(),
            "seconds_per_rollout": {
                name: figures.seconds["step"] / self.rollouts
                for name, figures in self.layouts.items()
            },
            "judge_share": self.judge_share,
            "speed_against_two_models": self.speed_against_two_models,
            "memory_against_no_judge": self.memory_against_no_judge,
        }

    @property
    def judge_share(self) -> float | None:
        shared = self.layouts.get("shared")
        return shared.seconds["judge"] / shared.seconds["step"] if shared else None

    @property
    def speed_against_two_models(self) -> float | None:
        two_models, shared = self.layouts.get("two models"), self.layouts.get("shared")
        if not two_models or not shared:
            return None
        return two_models.seconds["step"] / shared.seconds["step"]

    @property
    def memory_against_no_judge(self) -> float | None:
        shared, limit = self.layouts.get("shared"), self.layouts.get("no judge")
        if not shared or not limit:
            return None
        return shared.peak_memory_bytes / limit.peak_memory_bytes


def table(result: BenchResult) -> Iterator[str]:
    """Yield the lines of a table: a row per phase, a column per layout."""
    names = [name for name in LAYOUTS if name in result.layouts]
    layouts = [result.layouts[name] for name in names]
    yield _row("seconds per step", names)
    for phase in PHASES:
        yield _row(phase, [f"{layout.seconds[phase]:.2f}" for layout in layouts])
    yield _row("tokens/s", [f"{layout.tokens_per_s:.0f}" for layout in layouts])
    yield _row("sampled/s", [f"{layout.rollout_tokens_per_s:.0f}" for layout in layouts])
    yield _row("peak GiB", [f"{layout.peak_memory_bytes / 2**30:.2f}" for layout in layouts])
    estimates = [layout.estimated_peak_bytes for layout in layouts]
    if any(estimates):
        yield _row("estimated GiB", [f"{(size or 0) / 2**30:.2f}" for size in estimates])
    for name, reason in result.failed.items():
        yield f"{name}: no figures: {reason}"
    if shared := result.layouts.get("shared"):
        yield _rollout_cost(shared.seconds, result.rollouts)
    comparisons = [
        (result.judge_share, "judge {:.0%} of a step"),
        (result.speed_against_two_models, "{:.2f}x as fast as two models"),
        (result.memory_against_no_judge, "{:.2f}x the memory of no judge"),
    ]
    known = [text.format(value) for value, text in comparisons if value is not None]
    if known:
        yield "; ".join(known)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<16}" + "".join(f"{cell:>12}" for cell in cells)


def _rollout_cost(seconds: Mapping[str, float], rollouts: int) -> str:
    """Return the time per rollout, slowest phase first: that one limits the step."""
    parts = sorted((seconds[phase], phase) for phase in PHASES if phase != "step")
    by_phase = ", ".join(f"{phase} {1000 * part / rollouts:.1f}" for part, phase in reversed(parts))
    whole = 1000 * seconds["step"] / rollouts
    return f"a step is {rollouts} rollouts of {whole:.1f} ms each: {by_phase}"
