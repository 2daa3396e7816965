"""How training went: curves from metrics.jsonl."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from seccoderx_lite.core.records import Json
from seccoderx_lite.reporting.charts import SHARE, Series, line_chart, stacked_chart
from seccoderx_lite.reporting.page import Card, Section, grid, render

Metrics = Sequence[Mapping[str, Json]]

PARTS_TITLE = "Reward parts"
PARTS = ("functional", "vulnerability", "length", "similarity", "format", "security")


@dataclass(frozen=True, slots=True)
class Curve:
    """One chart: its title, the metrics it shows with their names, and what they mean."""

    title: str
    lines: tuple[tuple[str, str], ...]
    axis: str
    """Quantity or unit on the vertical axis."""
    stage: str = "policy"
    domain: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class RaisedAlarm:
    """One alarm: the steps it was raised at, and its last message."""

    steps: Sequence[int]
    message: str


CURVES = (
    Curve("Reward", (("reward", "mean reward"),), "reward per completion"),
    Curve(PARTS_TITLE, tuple((f"reward/{part}", part) for part in PARTS), "mean per completion"),
    Curve(
        "Rollouts that pass their tests",
        (
            ("functional_share", "functional"),
            ("security_share", "secure"),
            ("rollout_esr", "ESR"),
        ),
        "share of rollouts",
        domain=SHARE,
    ),
    Curve(
        "Held-out tasks, tested during training",
        (
            ("held_out_functional", "functional"),
            ("held_out_secure", "secure"),
            ("held_out_esr", "ESR"),
        ),
        "share of samples",
        domain=SHARE,
        note="The same tasks every time, not trained on and not judged; policy.held_out.",
    ),
    Curve(
        "Judge\u2019s verdicts",
        (("judged_safe_share", "judged safe"), ("canary_accuracy", "right on canaries")),
        "share",
        domain=SHARE,
    ),
    Curve("KL against the start", (("kl", "KL"),), "nats per token"),
    Curve("Entropy", (("entropy", "entropy"),), "nats per token"),
    Curve("Completion length", (("completion_length", "mean length"),), "tokens"),
    Curve(
        "Tasks that the curriculum draws seldom",
        (("seldom_share", "share of the tasks"),),
        "share of the tasks",
        domain=SHARE,
        note="Tasks whose groups had equal rewards lately: solved, or hopeless.",
    ),
    Curve("Speed", (("tokens_per_s", "sampled tokens"),), "tokens per second"),
    Curve("Warm start: loss", (("loss", "loss"),), "nats per token", stage="warm_start"),
    Curve("Judge, cold start: loss", (("loss", "loss"),), "nats per token", stage="cold_start"),
    Curve(
        "Judge, alignment: right verdicts",
        (("accuracy", "right verdicts"),),
        "share of answers",
        stage="align",
        domain=SHARE,
    ),
    Curve(
        "Judge, cold start: right verdicts",
        (("verdict_accuracy", "right verdicts"),),
        "share of examples",
        stage="cold_start",
        domain=SHARE,
    ),
)
HACKING = (
    Curve(
        "Judged safe, but an attack succeeds",
        (("reward_hacking", "share of rollouts"),),
        "share of rollouts",
        domain=SHARE,
        note="Working code the judge calls safe that fails its security tests, among rollouts with "
        "such tests. A rise means that the policy learns to please the judge.",
    ),
    Curve(
        "Stubs and duplicates",
        (
            ("stub_share", "stub or unparsable"),
            ("zero_variance_share", "groups stuck at equal rewards"),
            ("duplicate_share", "repeated completions"),
        ),
        "share",
        domain=SHARE,
        note="Completions without real code; groups whose rewards are all equal, except those that "
        "already earn the maximum; repeats among the rollouts that were kept.",
    ),
    Curve(
        "Drift",
        (
            ("reward/similarity", "similarity to the reference"),
            ("length_ratio", "length / reference"),
        ),
        "ratio",
        note="How far completions move away from the references in content or length.",
    ),
    Curve(
        "Judge",
        (
            ("verdict_saturation", "one verdict, no attack confirms it"),
            ("unclear_share", "unclear verdicts"),
            ("unscored_share", "unscored"),
        ),
        "share of rollouts",
        domain=SHARE,
        note="A judge that gives every completion the same verdict, an unreadable one, or none.",
    ),
)
COMPARED = (
    Curve("Reward", (("reward", ""),), "reward per completion"),
    Curve("ESR of the rollouts", (("rollout_esr", ""),), "ESR", domain=SHARE),
    Curve("Functional", (("functional_share", ""),), "share of rollouts", domain=SHARE),
    Curve("Held-out tasks: ESR", (("held_out_esr", ""),), "ESR", domain=SHARE),
    Curve("Held-out tasks: functional", (("held_out_functional", ""),), "share", domain=SHARE),
    Curve("Judged safe", (("judged_safe_share", ""),), "share of rollouts", domain=SHARE),
    Curve(
        "Judged safe, but an attack succeeds",
        (("reward_hacking", ""),),
        "share of rollouts",
        domain=SHARE,
    ),
    Curve("KL against the start", (("kl", ""),), "nats per token"),
    Curve("Entropy", (("entropy", ""),), "nats per token"),
    Curve("Completion length", (("completion_length", ""),), "tokens"),
)
"""Curves with one line per run."""
SMOOTHING = (
    "Per optimiser step. Long curves are running means over a sixth of the run, with the measured "
    "values faint behind them."
)


def _alarm_card(metrics: Metrics) -> Card:
    raised: dict[str, RaisedAlarm] = {}
    for row in metrics:
        for message in row.get("alarms") or []:
            name = message.split(" ", 1)[0]
            earlier = raised[name].steps if name in raised else ()
            raised[name] = RaisedAlarm([*earlier, row["step"]], message)
    if raised:
        body = render("alarms", alarms=list(raised.values()))
        return Card("Alarms", body, classes="alarm wide")
    trained = bool(_policy_rows(metrics))
    return Card("Alarms", Markup("<p>No alarm rang.</p>") if trained else Markup(), classes="wide")


def cost(metrics: Metrics, environment: Mapping[str, Json]) -> Iterator[str]:
    """Yield what training took: steps and minutes, memory, and the machine; what is known of it."""
    steps = [row["seconds"]["step"] for row in _policy_rows(metrics) if row.get("seconds")]
    if steps:
        yield f"{len(steps)} policy steps in {sum(steps) / 60:.1f} min"
    if peaks := [row["peak_memory_bytes"] for row in metrics if row.get("peak_memory_bytes")]:
        yield f"{max(peaks) / 2**30:.1f} GiB at the peak"
    if environment:
        gpu = environment.get("gpu")
        yield gpu["name"] if gpu else f"CPU, {environment.get('processors')} cores"


def training_sections(
    metrics: Metrics, completions: Sequence[Mapping[str, Json]], sampled: int | None
) -> Iterator[Section]:
    """Yield the sections about training and reward hacking.

    `completions` are the rollouts that were kept, `sampled` the number of rollouts per step.
    """
    curves = [_with_terms(curve, metrics) for curve in CURVES]
    cards = [*(_curve_card(metrics, curve) for curve in curves), *_cost_cards(metrics)]
    yield Section("training", "Training", grid(cards), SMOOTHING)
    enriched = _with_shares(metrics, completions, sampled)
    hacking = [_curve_card(enriched, curve) for curve in HACKING]
    yield Section("hacking", "Reward hacking", grid([*hacking, _alarm_card(metrics)]))


def comparison_section(runs: Mapping[str, Metrics]) -> Section:
    """Return the curves of several runs, one line per run."""
    cards = []
    for curve in COMPARED:
        ((key, _),) = curve.lines
        lines = [Series(name, _points(metrics, "policy", key)) for name, metrics in runs.items()]
        cards.append(Card(curve.title, line_chart(lines, curve.axis, curve.domain)))
    return Section("training", "Training", grid(cards), SMOOTHING)


def _policy_rows(metrics: Metrics) -> Metrics:
    return [row for row in metrics if row["stage"] == "policy"]


def _with_terms(curve: Curve, metrics: Metrics) -> Curve:
    """Add the terms of `policy.reward.terms` to the curve of the reward's parts."""
    if curve.title != PARTS_TITLE:
        return curve
    known = {key for key, _ in curve.lines} | {"reward/stub", "reward/gate", "reward/reward"}
    names = dict.fromkeys(key for row in metrics for key in row if key.startswith("reward/"))
    terms = [(key, key.removeprefix("reward/")) for key in names if key not in known]
    failures = {f"{key}_failed" for key, _ in terms}
    return replace(curve, lines=(*curve.lines, *(t for t in terms if t[0] not in failures)))


def _curve_card(metrics: Metrics, curve: Curve) -> Card:
    lines = [Series(name, _points(metrics, curve.stage, key)) for key, name in curve.lines]
    return Card(curve.title, line_chart(lines, curve.axis, curve.domain), curve.note)


def _points(metrics: Metrics, stage: str, key: str) -> list[tuple[float, float]]:
    return [
        (float(row["step"]), float(row[key]))
        for row in metrics
        if row["stage"] == stage and row.get(key) is not None
    ]


def _cost_cards(metrics: Metrics) -> Iterator[Card]:
    timed = [row for row in _policy_rows(metrics) if row.get("seconds")]
    phases = dict.fromkeys(phase for row in timed for phase in row["seconds"] if phase != "step")
    series = [
        Series(phase, [(row["step"], row["seconds"].get(phase, 0.0)) for row in timed])
        for phase in phases
    ]
    visible = [one for one in series if max(value for _, value in one.points) >= 0.01]
    yield Card("Time per step by phase", stacked_chart(visible, "seconds"))
    stages = (
        ("policy", "policy"),
        ("warm_start", "warm start"),
        ("align", "judge, align"),
        ("cold_start", "judge, cold start"),
    )
    memory = [
        Series(
            name,
            [
                (row["step"], row["peak_memory_bytes"] / 2**30)
                for row in metrics
                if row["stage"] == stage and row.get("peak_memory_bytes")
            ],
        )
        for stage, name in stages
    ]
    yield Card("Peak memory", line_chart(memory, "GiB", is_smoothed=False))


def _with_shares(
    metrics: Metrics, completions: Sequence[Mapping[str, Json]], sampled: int | None
) -> list[dict[str, Json]]:
    """The policy's rows with shares of duplicates, unclear verdicts and unscored completions."""
    kept: dict[int, list[tuple[str, str]]] = {}
    for row in completions:
        kept.setdefault(row["step"], []).append((row["task"], row["completion"]))
    enriched = []
    for row in _policy_rows(metrics):
        own = kept.get(row["step"], [])
        shares = {
            "duplicate_share": 1 - len(set(own)) / len(own) if own else None,
            "unclear_share": _share(row.get("unclear_verdicts"), sampled),
            "unscored_share": _share(row.get("unscored"), sampled),
        }
        enriched.append({**row, **shares})
    return enriched


def _share(count: Json, sampled: int | None) -> float | None:
    """The share of a step's rollouts; None in a record that does not count them."""
    return count / sampled if sampled and count is not None else None
