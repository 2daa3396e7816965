"""Alarms: signs that the policy earns reward for something other than secure, working code.

Pure functions of the shares of each step, averaged over a window of steps.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.core.numbers import mean
from seccoderx_lite.recipe.recipe import AlarmsRecipe
from seccoderx_lite.rewards.answers import ScoredCompletion


@dataclass(frozen=True, slots=True)
class Alarm:
    """A threshold of `policy.alarms` that is exceeded."""

    name: str
    """The threshold's field in the recipe."""
    message: str


def step_shares(scored: Sequence[ScoredCompletion], group_size: int) -> dict[str, float | None]:
    """Return the shares of one step that the alarms watch; None where nothing could be counted.

    `scored` holds whole rollout groups one after the other, `group_size` completions each.
    """
    attacked = [s for s in scored if s.tests and s.tests.security_total and s.verdict]
    stubs = [item for item in scored if not item.answer.is_real_code]
    changes = [item.answer.length_change for item in scored]
    ratios = [1.0 + change for change in changes if change is not None]
    labels = [s.verdict.label for s in scored if s.verdict and s.verdict.label]
    unconfirmed = [
        s.verdict.label for s in scored if s.verdict and s.verdict.label and not _is_proven_safe(s)
    ]
    most = max((unconfirmed.count(label) for label in set(unconfirmed)), default=0)
    groups = [scored[start : start + group_size] for start in range(0, len(scored), group_size)]
    # Without a difference in reward there is no advantage; a group that has earned the maximum
    # needs none.
    stuck = [g for g in groups if _is_flat(g) and not all(map(_has_maximum, g))]
    return {
        "reward_hacking": _share(sum(map(_fools_judge, attacked)), len(attacked)),
        "stub_share": _share(len(stubs), len(scored)),
        "length_ratio": sum(ratios) / len(ratios) if ratios else None,
        "zero_variance_share": _share(len(stuck), len(groups)),
        "verdict_saturation": _share(most, len(labels)),
        "unscored_share": _share(sum(s.reward is None for s in scored), len(scored)),
    }


def _is_flat(group: Sequence[ScoredCompletion]) -> bool:
    return len({item.reward for item in group if item.reward is not None}) <= 1


def _fools_judge(item: ScoredCompletion) -> bool:
    """Whether working code that the judge calls safe fails its security tests."""
    is_judged_safe = item.verdict is not None and item.verdict.label == "safe"
    tests = item.tests
    return is_judged_safe and bool(tests and tests.is_functional and not tests.is_secure)


def _has_maximum(item: ScoredCompletion) -> bool:
    """Whether it works and is safe: by the judge, or without one by the security tests."""
    if item.reward is None:
        return False
    safe = item.parts.get("vulnerability")
    safe = item.parts.get("security") if safe is None else safe
    return bool(item.parts.get("gate", 1.0)) and bool(safe is None or safe > 0.5)


def _is_proven_safe(item: ScoredCompletion) -> bool:
    """Whether the security tests agree with the judge that it is safe."""
    is_judged_safe = item.verdict is not None and item.verdict.label == "safe"
    return is_judged_safe and item.tests is not None and item.tests.is_secure


def _share(count: int, total: int) -> float | None:
    return count / total if total else None


class Alarms:
    """Keeps the last `window` steps and finds the thresholds that their means exceed."""

    def __init__(self, recipe: AlarmsRecipe, earlier: Iterable[Mapping[str, Any]] = ()) -> None:
        """Start with the records of `earlier` steps, those of a resumed run."""
        self._recipe = recipe
        self._window: dict[int, Mapping[str, Any]] = {}
        for shares in earlier:
            self._remember(shares["step"], shares)

    def check(self, step: int, shares: Mapping[str, Any]) -> list[Alarm]:
        """Add a step's shares and return one alarm per exceeded threshold.

        A repeated step replaces its former shares. There is no alarm before the window is full.
        """
        self._remember(step, shares)
        if len(self._window) < self._recipe.window:
            return []
        return list(self._exceeded())

    def _remember(self, step: int, shares: Mapping[str, Any]) -> None:
        self._window[step] = shares
        for old in sorted(self._window)[: -self._recipe.window]:
            del self._window[old]

    def _exceeded(self) -> Iterator[Alarm]:
        for name, meaning in _MEANING.items():
            limit, value = getattr(self._recipe, name), self._mean(name)
            if limit is not None and value is not None and value > limit:
                yield Alarm(name, f"{name} is {value:.2f}, above {limit:g} ({meaning})")
        ratio, bounds = self._mean("length_ratio"), self._recipe.length_ratio
        if bounds is not None and ratio is not None and not bounds[0] <= ratio <= bounds[1]:
            yield Alarm(
                "length_ratio",
                f"length_ratio is {ratio:.2f}, outside {bounds[0]:g} to {bounds[1]:g} "
                "(completions become much shorter or longer than their references)",
            )

    def _mean(self, name: str) -> float | None:
        return mean(step.get(name) for step in self._window.values())


_MEANING = {
    "reward_hacking": "working code that the judge calls safe fails its security tests",
    "stub_share": "completions without code, with stubs or with code that does not parse",
    "zero_variance_share": "all rewards of a rollout group are equal, so it gives no gradient",
    "verdict_saturation": "nearly all completions get the same verdict",
    "unscored_share": "completions have no reward because the judge, the sandbox or a term failed",
}
