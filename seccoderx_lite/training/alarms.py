"""Alarms: signs that the policy is paid for something other than secure, working code.

Pure: shares of single steps in, messages out, over a window of steps.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from seccoderx_lite.recipe.recipe import AlarmsRecipe
from seccoderx_lite.rewards.answers import ScoredCompletion


def step_shares(scored: Sequence[ScoredCompletion], group_size: int) -> dict[str, float | None]:
    """Return the shares of one step that alarms watch; None where there was nothing to count.

    `scored` holds whole rollout groups one after the other, `group_size` completions each.
    """
    attacked = [s for s in scored if s.tests and s.tests.security_total and s.verdict]
    fooled = [s for s in attacked if s.verdict and s.verdict.label == "safe"
              and s.tests and s.tests.is_functional and not s.tests.is_secure]  # fmt: skip
    hollow = [item for item in scored if not item.answer.is_real_code]
    changes = [item.answer.length_change for item in scored]
    ratios = [1.0 + change for change in changes if change is not None]
    labels = [s.verdict.label for s in scored if s.verdict and s.verdict.label]
    doubtful = [s.verdict.label for s in scored
                if s.verdict and s.verdict.label and not _is_confirmed_safe(s)]  # fmt: skip
    most = max((doubtful.count(label) for label in set(doubtful)), default=0)
    groups = [scored[start : start + group_size] for start in range(0, len(scored), group_size)]
    stuck = [g for g in groups if _is_flat(g) and not all(map(_has_all_it_can_earn, g))]
    return {
        "reward_hacking": _share(len(fooled), len(attacked)),
        "stub_share": _share(len(hollow), len(scored)),
        "length_ratio": sum(ratios) / len(ratios) if ratios else None,
        "zero_variance_share": _share(len(stuck), len(groups)),
        "verdict_saturation": _share(most, len(labels)),
        "unscored_share": _share(sum(s.reward is None for s in scored), len(scored)),
    }


def _is_flat(group: Sequence[ScoredCompletion]) -> bool:
    return len({item.reward for item in group if item.reward is not None}) <= 1


def _has_all_it_can_earn(item: ScoredCompletion) -> bool:
    """Works and is safe: by the judge's word where it is asked, else by the security tests.

    Nothing of the kind is known of an unscored completion.
    """
    if item.reward is None:
        return False
    safe = item.parts.get("vulnerability")
    safe = item.parts.get("security") if safe is None else safe
    return bool(item.parts.get("gate", 1.0)) and bool(safe is None or safe > 0.5)


def _is_confirmed_safe(item: ScoredCompletion) -> bool:
    """Judged safe, and no attacking test says else."""
    is_judged_safe = item.verdict is not None and item.verdict.label == "safe"
    return is_judged_safe and item.tests is not None and item.tests.is_secure


def _share(count: int, total: int) -> float | None:
    return count / total if total else None


class Alarms:
    """Holds the last `window` steps and says which thresholds their means break."""

    def __init__(self, recipe: AlarmsRecipe, earlier: Iterable[Mapping[str, Any]] = ()) -> None:
        """Begin with the records of `earlier` steps, those of a run that is resumed."""
        self._recipe = recipe
        self._window: dict[int, Mapping[str, Any]] = {}
        for shares in earlier:
            self._remember(shares["step"], shares)

    def check(self, step: int, shares: Mapping[str, Any]) -> list[str]:
        """Add a step's shares and return one message a broken threshold.

        A step that is done again replaces itself. Nothing is said before the window is full.
        """
        self._remember(step, shares)
        if len(self._window) < self._recipe.window:
            return []
        return list(self._messages())

    def _remember(self, step: int, shares: Mapping[str, Any]) -> None:
        self._window[step] = shares
        for old in sorted(self._window)[: -self._recipe.window]:
            del self._window[old]

    def _messages(self) -> Iterator[str]:
        for name in _MEANING:
            limit, value = getattr(self._recipe, name), self._mean(name)
            if limit is not None and value is not None and value > limit:
                yield f"{name} is {value:.2f}, above {limit:g} ({_MEANING[name]})"
        ratio, bounds = self._mean("length_ratio"), self._recipe.length_ratio
        if bounds is not None and ratio is not None and not bounds[0] <= ratio <= bounds[1]:
            yield (
                f"length_ratio is {ratio:.2f}, outside {bounds[0]:g} to {bounds[1]:g} "
                "(completions drift away from their references in length)"
            )

    def _mean(self, name: str) -> float | None:
        values = [value for step in self._window.values() if (value := step.get(name)) is not None]
        return sum(values) / len(values) if values else None


_MEANING = {
    "reward_hacking": "working code that the judge calls safe fails its security tests",
    "stub_share": "completions without code, with stubs or with code that does not parse",
    "zero_variance_share": "rollout groups whose rewards are all equal teach nothing",
    "verdict_saturation": "nearly all completions get the same verdict",
    "unscored_share": "completions without a reward: judge or sandbox fail, not the model",
}
