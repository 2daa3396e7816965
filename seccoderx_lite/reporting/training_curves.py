"""How training went: curves from metrics.jsonl."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from seccoderx_lite.core.records import Json
from seccoderx_lite.reporting.charts import SHARE, Series, line_chart, stacked_chart
from seccoderx_lite.reporting.page import card, safe, section

Metrics = Sequence[Mapping[str, Json]]

PARTS = ("functional", "vulnerability", "length", "similarity", "format", "security")


@dataclass(frozen=True, slots=True)
class Curve:
    """One chart: a title, which metrics it shows under which names, and what they mean."""

    title: str
    lines: tuple[tuple[str, str], ...]
    stage: str = "policy"
    unit: str = ""
    domain: tuple[float, float] | None = None
    note: str = ""


CURVES = (
    Curve("Reward", (("reward", "mean reward"),)),
    Curve("Reward parts", tuple((f"reward/{part}", part) for part in PARTS)),
    Curve("Rollouts that pass their tests", (("functional_share", "functional"),
          ("security_share", "secure"), ("rollout_esr", "ESR")), domain=SHARE),
    Curve("Judge\u2019s verdicts", (("judged_safe_share", "judged safe"),
          ("canary_accuracy", "right on canaries")), domain=SHARE),
    Curve("KL against the base, nats", (("kl", "KL"),), unit=" nats"),
    Curve("Entropy, nats", (("entropy", "entropy"),), unit=" nats"),
    Curve("Completion length, tokens", (("completion_length", "tokens"),), unit=" tokens"),
    Curve("Speed, tokens per second", (("tokens_per_s", "tokens per second"),)),
    Curve("Judge, cold start: loss", (("loss", "loss"),), stage="cold_start"),
    Curve("Judge, alignment", (("accuracy", "right verdicts"),), stage="align", domain=SHARE),
)  # fmt: skip
HACKING = (
    Curve("Judged safe, but an attack succeeds", (("reward_hacking", "share of rollouts"),),
          domain=SHARE, note="Working code the judge calls safe that fails its security tests, "
          "among rollouts with such tests. A rise means that the policy learns to please the "
          "judge."),
    Curve("Stubs and duplicates", (("stub_share", "stub or unparsable"),
          ("zero_variance_share", "groups stuck at equal rewards"),
          ("duplicate_share", "repeated completions")), domain=SHARE,
          note="Completions without real code; groups that teach nothing, those that earned all "
          "they could not counted; repeats among the rollouts that were kept."),
    Curve("Drift", (("reward/similarity", "similarity to the reference"),
          ("length_ratio", "length / reference")),
          note="Away from the references in content or in length."),
    Curve("Judge", (("verdict_saturation", "one verdict, no attack confirms it"),
          ("unclear_share", "unclear verdicts"), ("unscored_share", "unscored")), domain=SHARE,
          note="A judge that says the same of everything, cannot be read, or fails."),
)  # fmt: skip
COMPARED = (
    ("reward", "Reward", None), ("rollout_esr", "ESR of the rollouts", SHARE),
    ("functional_share", "Functional", SHARE), ("judged_safe_share", "Judged safe", SHARE),
    ("reward_hacking", "Judged safe, but an attack succeeds", SHARE),
    ("kl", "KL against the base, nats", None), ("entropy", "Entropy, nats", None),
    ("completion_length", "Completion length, tokens", None),
)  # fmt: skip
SMOOTHING = (
    "By optimiser step. Long curves are running means over a sixth of the run, the steps "
    "themselves faint behind them."
)


def alarms(metrics: Metrics) -> str:
    """Return the alarms as a card, "" without any."""
    raised: dict[str, list[tuple[int, str]]] = {}
    for row in metrics:
        for message in row.get("alarms") or []:
            raised.setdefault(message.split(" ", 1)[0], []).append((row["step"], message))
    lines = "".join(
        f"<li>{len(steps)} {'steps' if len(steps) > 1 else 'step'}, {steps[0][0]} to "
        f"{steps[-1][0]}; at last: {safe(steps[-1][1])}</li>"
        for steps in raised.values()
    )
    return card("Alarms", f"<ul>{lines}</ul>", classes="alarm wide") if lines else ""


def cost(metrics: Metrics, environment: Mapping[str, Json]) -> Iterator[str]:
    """Yield what training took: steps and minutes, memory, and the machine; what is known of it."""
    steps = [row["seconds"]["step"] for row in metrics
             if row["stage"] == "policy" and row.get("seconds")]  # fmt: skip
    if steps:
        yield f"{len(steps)} policy steps in {sum(steps) / 60:.1f} min"
    if peaks := [row["peak_memory_bytes"] for row in metrics if row.get("peak_memory_bytes")]:
        yield f"{max(peaks) / 2**30:.1f} GiB at the peak"
    if environment:
        gpu = environment.get("gpu")
        yield gpu["name"] if gpu else f"CPU, {environment.get('processors')} cores"


def curves(
    metrics: Metrics, completions: Sequence[Mapping[str, Json]], sampled: int | None
) -> Iterator[str]:
    """Yield the sections about training and reward hacking, nothing without metrics.

    `completions` are the rollouts that were kept, `sampled` how many a step has in all.
    """
    cards = [*(_curve(metrics, one) for one in CURVES), *_costs(metrics)]
    yield _grid("training", "Training", cards, SMOOTHING)
    enriched = _with_shares(metrics, completions, sampled)
    hacking = [_curve(enriched, one) for one in HACKING]
    yield _grid("hacking", "Reward hacking", [*hacking, alarms(metrics)])


def _curve(metrics: Metrics, curve: Curve) -> str:
    lines = [Series(name, _points(metrics, curve.stage, key)) for key, name in curve.lines]
    return card(curve.title, line_chart(lines, curve.unit, curve.domain), curve.note)


def comparison_curves(runs: Mapping[str, Metrics]) -> str:
    """Return the curves of several runs over each other."""
    cards = [
        card(title, line_chart([Series(name, _points(metrics, "policy", key))
                                for name, metrics in runs.items()], domain=domain))
        for key, title, domain in COMPARED
    ]  # fmt: skip
    return _grid("training", "Training", cards, SMOOTHING)


def _grid(identifier: str, title: str, cards: Sequence[str], note: str = "") -> str:
    body = "".join(cards)
    return section(identifier, title, [f'<div class="grid">{body}</div>'] if body else [], note)


def _points(metrics: Metrics, stage: str, key: str) -> list[tuple[float, float]]:
    return [
        (float(row["step"]), float(row[key]))
        for row in metrics
        if row["stage"] == stage and row.get(key) is not None
    ]


def _costs(metrics: Metrics) -> Iterator[str]:
    policy = [row for row in metrics if row["stage"] == "policy" and row.get("seconds")]
    phases = dict.fromkeys(phase for row in policy for phase in row["seconds"] if phase != "step")
    series = [
        Series(phase, [(row["step"], row["seconds"].get(phase, 0.0)) for row in policy])
        for phase in phases
    ]
    visible = [one for one in series if max(value for _, value in one.points) >= 0.01]
    yield card("Time of a step by phase, seconds", stacked_chart(visible, " s"))
    memory = [
        Series(name, [(row["step"], row["peak_memory_bytes"] / 2**30) for row in metrics
                      if row["stage"] == stage and row.get("peak_memory_bytes")])
        for stage, name in (("policy", "policy"), ("align", "judge, align"),
                            ("cold_start", "judge, cold start"))
    ]  # fmt: skip
    yield card("Peak memory, GiB", line_chart(memory, " GiB", is_smoothed=False))


def _with_shares(
    metrics: Metrics, completions: Sequence[Mapping[str, Json]], sampled: int | None
) -> list[dict[str, Json]]:
    """The policy's rows with shares of duplicates, unclear verdicts and unscored completions."""
    kept: dict[int, list[tuple[str, str]]] = {}
    for row in completions:
        kept.setdefault(row["step"], []).append((row["task"], row["completion"]))
    enriched = []
    for row in metrics:
        if row["stage"] != "policy":
            continue
        own = kept.get(row["step"], [])
        enriched.append({
            **row,
            "duplicate_share": 1 - len(set(own)) / len(own) if own else None,
            "unclear_share": row.get("unclear_verdicts", 0) / sampled if sampled else None,
            "unscored_share": row.get("unscored", 0) / sampled if sampled else None,
        })  # fmt: skip
    return enriched
