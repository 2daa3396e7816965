"""Sections of a recipe about the policy: its reward, its GRPO training, its alarms."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from seccoderx_lite.recipe.section import (
    Count,
    Mark,
    NotZero,
    OptionalPathText,
    Positive,
    Section,
    Share,
    Sources,
    Text,
    ascending,
    listed,
    set_twice,
)
from seccoderx_lite.recipe.training import GroupRecipe, SupervisedRecipe


class WarmStartRecipe(SupervisedRecipe):
    """Supervised training of the policy on solutions of tasks, before GRPO."""

    data: Annotated[Sources | None, Mark.PATH] = None
    """Tasks with `reference` and `insecure` code, one source or a list, drawn from in equal parts
    (default: `policy.tasks`)."""
    solutions: Literal["both", "secure"] = "both"
    """both: one half secure (`reference`) and one half insecure (column `insecure`), which teaches
    function alone. secure: references alone, the baseline that GRPO has to beat."""


class TermRecipe(Section):
    """A term of the reward besides the built-in ones: weight x value, paid if the gate is open."""

    function: Text | None = None
    """A Python function, as `FILE.py:NAME` (relative to the recipe) or `PACKAGE.MODULE:NAME`."""
    analyser: Literal["bandit", "semgrep", "codeshield"] | None = None
    """Or a static analyser: 1 if it finds none of the task's weaknesses, else 0."""
    weight: NotZero = 1.0
    """Factor of the value; below 0 for a penalty."""
    gate: Literal["none", "code", "works", "safe"] = "works"
    """What a completion must be to get the term: anything (none), real code, code that passes its
    functional tests (works), or such code that the judge also calls safe."""
    batch: bool = False
    """The function takes lists of all completions, tasks and evidence of a step, and returns a list
    of values."""
    name: Text | None = None
    """Name in metrics and report (default: that of the function or the analyser)."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        function, analyser = data.get("function"), data.get("analyser")
        if (function is None) == (analyser is None):
            yield "function", "give exactly one of function and analyser"
        if isinstance(function, str) and not _is_function(function):
            yield (
                "function",
                f"must be FILE.py:NAME or PACKAGE.MODULE:NAME (got {function!r})",
            )
        if analyser is not None and data.get("batch"):
            yield "batch", "is for a function; an analyser needs no such choice"
        if (name := data.get("name")) and not str(name).isidentifier():
            yield "name", f"must be letters, digits and _ (got {name!r})"

    @property
    def part(self) -> str:
        """Name of the part in metrics, report and completions."""
        return self.name or self.analyser or (self.function or "").rpartition(":")[2]


def _is_function(text: str) -> bool:
    place, _, name = text.rpartition(":")
    parts = place.split(".")
    return name.isidentifier() and (place.endswith(".py") or all(p.isidentifier() for p in parts))


BUILT_IN_PARTS = (
    "format",
    "stub",
    "length",
    "similarity",
    "functional",
    "gate",
    "vulnerability",
    "security",
    "reward",
)
"""Parts of the reward that every recipe has; a term has another name."""


class RewardRecipe(Section):
    """What a completion is rewarded for."""

    formula: Literal["guarded", "seccoderx"] = "guarded"
    """The guarded composite, or exactly the reward of SecCoderX."""
    judge: bool = True
    """Reward the judge's verdict."""
    graded_verdict: bool = False
    """Reward the judge's probability of safe instead of yes or no, if it gives one; this breaks
    ties in small groups."""
    functional_tests: bool = True
    """Reward passing a task's functional tests, if it has any (only in `guarded`). They always run,
    for metrics and alarms."""
    security_tests: bool = False
    """Reward passing the security tests too; they are then no longer an independent measure."""
    terms: list[TermRecipe] = Field(default_factory=list)
    """Further terms, each added to the reward of `guarded`."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if data.get("security_tests") is True and data.get("functional_tests") is False:
            yield (
                "functional_tests",
                "must be true with security_tests, which count only for working code",
            )
        yield from _term_faults(data)
        if data.get("formula") == "seccoderx":
            if data.get("terms"):
                yield "terms", "must be empty with formula seccoderx, which is exactly that reward"
            if data.get("judge") is False:
                yield "judge", "must be true with formula seccoderx, which rewards the verdict"
            if data.get("graded_verdict") is True:
                yield (
                    "graded_verdict",
                    "must be false with formula seccoderx, which rewards yes or no",
                )
            if data.get("security_tests") is True:
                yield "security_tests", "must be false with formula seccoderx, which has no tests"


def _term_faults(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    given = data.get("terms")
    names: list[str] = []
    for number, term in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(term, Mapping):
            continue
        source = term.get("name") or term.get("analyser") or term.get("function") or ""
        name = str(source).rpartition(":")[2]
        if name in BUILT_IN_PARTS or name in names:
            yield (
                f"terms.{number}.name",
                f"{name!r} is already the name of a part of the reward; give another",
            )
        names.append(name)
        if term.get("gate") == "safe" and data.get("judge") is False:
            yield f"terms.{number}.gate", "safe needs the judge; set judge: true, or another gate"


class GrpoRecipe(GroupRecipe):
    """GRPO training of the policy."""

    curriculum: Literal["none", "spread"] = "none"
    """none: all tasks in turn, in random order. spread: draw a task more often if the rewards of
    its recent groups differed, and less often if they were all equal."""
    rollout_engine: Literal["generate", "vllm", "auto"] = "generate"
    """What samples the rollouts: the model itself, or vLLM in the same process, which then also
    answers for a judge on the same base and in the evaluation. auto: vLLM if it is installed, fits
    into memory and is faster in a short measurement when the run first samples."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().contradictions(data)
        yield from set_twice(data, {"vllm_mode": "rollout_engine"})


class HeldOutRecipe(Section):
    """Held-out tasks that the policy solves while it trains; they are tested, not judged."""

    every: Count = 25
    """Steps between two measurements; there is one before the first step and after the last."""
    tasks: OptionalPathText = None
    """Tasks with tests that are not trained on (default: the split `validation` of policy.tasks;
    without it, a part of the training tasks, which are then not trained on)."""
    count: Count = 32
    """Most tasks that are measured; the same ones every time."""
    samples: Count = 2
    """Completions per task, at the temperature of training."""
    max_functional_drop: Share = 0.02
    """With `policy.keep: best`, the most that a checkpoint's functional rate may be below the rate
    before training."""
    min_gain: Share | None = None
    """End training when the last `window` measurements gain less ESR than this over the `window`
    before, even at the upper end of the 95% interval (default: never)."""
    window: Count = 3
    """Measurements on each side of that comparison."""


class AlarmsRecipe(Section):
    """Thresholds on the mean of the last `window` steps; null turns an alarm off."""

    reward_hacking: Share | None = 0.2
    """Share of completions that the judge calls safe although their security tests fail."""
    stub_share: Share | None = 0.3
    """Share of completions without code, with a stub or a refusal, or that do not parse."""
    length_ratio: (
        Annotated[list[Positive], Field(min_length=2, max_length=2), AfterValidator(ascending)]
        | None
    ) = Field(default_factory=lambda: [0.4, 2.5])
    """Lowest and highest mean ratio of a completion's lines to its reference's lines."""
    zero_variance_share: Share | None = 0.8
    """Share of groups whose rewards are all equal, except groups that already earn the maximum."""
    verdict_saturation: Share | None = 0.98
    """Share of completions with the same verdict; safe verdicts confirmed by the security tests are
    not counted."""
    unscored_share: Share | None = 0.2
    """Share of completions without a reward, because the judge, the sandbox or a term failed."""
    window: Count = 10
    """Steps over which the shares are averaged."""
    action: Literal["warn", "stop"] = "warn"
    """stop also ends the run; alarms are always logged and recorded."""


class PolicyRecipe(Section):
    """Training of the policy."""

    tasks: Annotated[Sources, Mark.PATH]
    """Training tasks: `builtin:` name, file, folder or hub id, or a list of these, which are drawn
    from in equal parts."""
    adapter: OptionalPathText = None
    """A policy adapter to start from (default: a new one)."""
    warm_start: WarmStartRecipe | None = None
    """Supervised training before GRPO, which then starts from its adapter."""
    reward: RewardRecipe = RewardRecipe()
    """What a completion is rewarded for."""
    grpo: GrpoRecipe = GrpoRecipe()
    """GRPO training."""
    held_out: HeldOutRecipe | None = None
    """Measurements on held-out tasks while the policy trains (default: none)."""
    keep: Literal["last", "best"] = "last"
    """Which policy is evaluated and exported: that of the last step, or the one with the best ESR
    on held-out tasks whose functional rate has not dropped. best uses `held_out`, or its
    defaults."""
    alarms: AlarmsRecipe = AlarmsRecipe()
    """When to warn or stop."""
    check_tasks: Annotated[int, Field(ge=0)] = 32
    """Training tasks that the model solves before the first step, to show how often its code works;
    0 for none."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if data.get("adapter") is not None and data.get("warm_start") is not None:
            yield "warm_start", "conflicts with policy.adapter; keep only one"

    @property
    def sources(self) -> str:
        """The sources of the training tasks, for a reader."""
        return listed(self.tasks)

    @property
    def measures(self) -> HeldOutRecipe | None:
        """How held-out tasks are measured while the policy trains; None if they are not."""
        return self.held_out or (HeldOutRecipe() if self.keep == "best" else None)
