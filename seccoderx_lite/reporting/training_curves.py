"""How training went: curves from metrics.jsonl."""

from collections.abc import Iterator, Mapping, Sequence

from seccoderx_lite.records import Json
from seccoderx_lite.reporting.charts import Series, line_chart, stacked_chart
from seccoderx_lite.reporting.page import card, safe, section

Metrics = Sequence[Mapping[str, Json]]

PARTS = ("functional", "vulnerability", "length", "similarity", "format", "security")
CURVES: tuple[tuple[str, str, tuple[tuple[str, str], ...], str], ...] = (
    ("policy", "Reward", (("reward", "mean reward"),), ""),
    ("policy", "Reward parts", tuple((f"reward/{part}", part) for part in PARTS), ""),
    ("policy", "Tests of the rollouts", (("functional_share", "functional"),
     ("security_share", "secure"), ("rollout_esr", "ESR")), ""),
    ("policy", "Verdicts", (("judged_safe_share", "judged safe"),
     ("canary_accuracy", "right on canaries")), ""),
    ("policy", "KL against the base", (("kl", "KL"),), " nats"),
    ("policy", "Entropy", (("entropy", "entropy"),), " nats"),
    ("policy", "Completion length", (("completion_length", "tokens"),), " tokens"),
    ("policy", "Speed", (("tokens_per_s", "tokens per second"),), ""),
    ("cold_start", "Judge, cold start", (("loss", "loss"),), ""),
    ("align", "Judge, alignment", (("accuracy", "accuracy"), ("format", "format")), ""),
)  # fmt: skip
HACKING: tuple[tuple[str, tuple[tuple[str, str], ...], str], ...] = (
    ("Judged safe, but an attack succeeds", (("reward_hacking", "share of attacked completions"),),
     "Working code the judge calls safe that fails its security tests. A rise means that the "
     "policy learns to please the judge."),
    ("Stubs and duplicates", (("stub_share", "stub or unparsable"),
     ("zero_variance_share", "groups with equal rewards"), ("duplicate_share", "duplicates")),
     "Completions without real code, groups that teach nothing, and equal completions among the "
     "rollouts that were kept."),
    ("Drift", (("reward/similarity", "similarity to the reference"),
     ("length_ratio", "length / reference")),
     "Away from the references in content or in length."),
    ("Judge", (("verdict_saturation", "most common verdict"),
     ("unclear_share", "unclear verdicts"), ("unscored_share", "unscored")),
     "A judge that always says the same, cannot be read, or fails."),
)  # fmt: skip


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


def curves(
    metrics: Metrics, completions: Sequence[Mapping[str, Json]], sampled: int | None
) -> Iterator[str]:
    """Yield the sections about training and reward hacking, nothing without metrics.

    `completions` are the rollouts that were kept, `sampled` how many a step has in all.
    """
    cards = [
        card(title, line_chart([Series(name, _points(metrics, stage, key)) for key, name in lines],
                               unit))
        for stage, title, lines, unit in CURVES
    ]  # fmt: skip
    cards += list(_costs(metrics))
    yield _grid("training", "Training", cards)
    enriched = _with_shares(metrics, completions, sampled)
    hacking = [
        card(title, line_chart([Series(name, _points(enriched, "policy", key))
                                for key, name in lines]), note)
        for title, lines, note in HACKING
    ]  # fmt: skip
    yield _grid("hacking", "Reward hacking", [*hacking, alarms(metrics)])


def comparison_curves(runs: Mapping[str, Metrics]) -> str:
    """Return the curves of several runs over each other."""
    keys = (("reward", "Reward"), ("rollout_esr", "ESR of the rollouts"),
            ("functional_share", "Functional"), ("judged_safe_share", "Judged safe"),
            ("reward_hacking", "Judged safe, but an attack succeeds"), ("kl", "KL"),
            ("entropy", "Entropy"), ("completion_length", "Completion length"))  # fmt: skip
    cards = [
        card(title, line_chart([Series(name, _points(metrics, "policy", key))
                                for name, metrics in runs.items()]))
        for key, title in keys
    ]  # fmt: skip
    return _grid("training", "Training", cards)


def _grid(identifier: str, title: str, cards: Sequence[str]) -> str:
    body = "".join(cards)
    return section(identifier, title, [f'<div class="grid">{body}</div>'] if body else [])


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
    yield card("Time of a step by phase", stacked_chart(visible, " s"))
    memory = [
        Series(name, [(row["step"], row["peak_memory_bytes"] / 2**30) for row in metrics
                      if row["stage"] == stage and row.get("peak_memory_bytes")])
        for stage, name in (("policy", "policy"), ("align", "judge, align"),
                            ("cold_start", "judge, cold start"))
    ]  # fmt: skip
    yield card("Peak memory", line_chart(memory, " GiB"), "GiB")


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
