"""Terms of the reward besides the built-in ones: functions of one's own, and static analysers.

A term's value counts `weight` times, and only where its gate is open. A term that fails leaves the
completion unscored: it says nothing about the model.
"""

import hashlib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from seccoderx_lite.core.errors import JudgeError, RecipeError, SandboxError
from seccoderx_lite.core.numbers import finite
from seccoderx_lite.core.records import Task, TestResult, Verdict
from seccoderx_lite.judge.analysers import Analyser, AnalyserName, concerns
from seccoderx_lite.judge.codeshield import CodeShield
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.recipe.policy import TermRecipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a completion when a term looks at it."""

    code: str
    """The code of the completion, "" without a code block."""
    parts: Mapping[str, float | None]
    """The parts of its reward so far, such as `functional` and `similarity`."""
    verdict: Verdict | None
    """The judge's verdict; None if it was not asked."""
    tests: TestResult | None
    """The result of the task's tests; None without tests."""


TermValues = Callable[[Sequence[str], Sequence[Task], Sequence[Evidence]], Sequence[Any]]
"""Completions, tasks and evidence to one value each: a number, or None if it cannot be said."""


@dataclass(frozen=True, slots=True)
class Term:
    """A term that is ready to be asked."""

    recipe: TermRecipe
    ask: TermValues

    @property
    def name(self) -> str:
        return self.recipe.part

    def is_open(self, parts: Mapping[str, float | None]) -> bool:
        """Whether a completion with these built-in parts may get the term."""
        needed = {
            "none": (),
            "code": ("format",),
            "works": ("format", "gate"),
            "safe": ("format", "gate", "vulnerability"),
        }[self.recipe.gate]
        # What was not measured leaves the gate open: the completion is unscored anyway, unless the
        # task has no such part.
        return all(value is None or value > 0.5 for value in map(parts.get, needed))

    def values(
        self, completions: Sequence[str], tasks: Sequence[Task], evidence: Sequence[Evidence]
    ) -> list[float | None]:
        """Return a value per completion; None, with a warning, where the term has none."""
        try:
            given = list(self.ask(completions, tasks, evidence))
        except Exception as error:  # a term's failure becomes an unscored completion
            self._warn(f"failed with {type(error).__name__}: {error}", len(completions))
            return [None] * len(completions)
        if len(given) != len(completions):
            self._warn(f"returned {len(given)} values for {len(completions)}", len(completions))
            return [None] * len(completions)
        values = [_number(value) for value in given]
        if wrong := [g for g, v in zip(given, values, strict=True) if v is None]:
            self._warn(_complaint(wrong[0]), len(wrong))
        return values

    def _warn(self, what: str, count: int) -> None:
        logger.warning(
            "policy.reward.terms: %s %s; %d completions are unscored", self.name, what, count
        )


def _number(value: Any) -> float | None:
    """A value as a finite number; None for all that is not one."""
    is_number = isinstance(value, int | float) or hasattr(value, "__float__")
    try:
        return finite(float(value)) if is_number else None
    except (TypeError, ValueError, OverflowError):
        return None


def _complaint(value: Any) -> str:
    if isinstance(value, Failure):
        return f"failed with {value.text}"
    if value is None:
        return "had no value"
    return f"returned {value!r:.60}, which is not a finite number"


@dataclass(frozen=True, slots=True)
class Failure:
    """In the place of a value: the call for this completion failed."""

    text: str


def loaded_terms(recipes: Sequence[TermRecipe]) -> tuple[Term, ...]:
    """Return the terms of a recipe, ready to be asked; functions and analysers are loaded once.

    Raises:
        RecipeError: a function cannot be loaded, or an analyser is not installed.
    """
    return tuple(_loaded(recipe) for recipe in recipes)


@cache
def _loaded(recipe: TermRecipe) -> Term:
    if recipe.analyser:
        return Term(recipe, _analyser_values(recipe.analyser))
    assert recipe.function is not None
    function = _function(recipe.function)
    return Term(recipe, function if recipe.batch else _one_by_one(function))


def _one_by_one(function: Callable[[str, Task, Evidence], Any]) -> TermValues:
    def values(
        completions: Sequence[str], tasks: Sequence[Task], evidence: Sequence[Evidence]
    ) -> list[Any]:
        return [
            _value_or_failure(function, *row)
            for row in zip(completions, tasks, evidence, strict=True)
        ]

    return values


def _value_or_failure(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # a term's failure becomes an unscored completion
        return Failure(f"{type(error).__name__}: {error}")


def _function(place: str) -> Callable[..., Any]:
    """Load `FILE.py:NAME` or `PACKAGE.MODULE:NAME`."""
    source, _, name = place.rpartition(":")
    try:
        module = _file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    except RecipeError:
        raise
    except Exception as error:  # whatever the file does when it is loaded
        raise RecipeError(
            f"policy.reward.terms: {source} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = sorted(n for n, v in vars(module).items() if callable(v) and n[0] != "_")
        raise RecipeError(
            f"policy.reward.terms: {source} has no function {name} (it has: "
            f"{', '.join(known) or 'none'})"
        )
    loaded: Callable[..., Any] = function
    return loaded


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise RecipeError(
            f"policy.reward.terms: there is no file {path}; a path is relative to the recipe"
        )
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"_reward_term_{path.stem}_{digest}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as `import` does; dataclasses and pickle look there
    spec.loader.exec_module(module)
    return module


def _analyser_values(name: str) -> TermValues:
    """An analyser as a term: 1 for code in which it finds none of the task's weaknesses, else 0."""
    try:
        verdicts = _codeshield() if name == "codeshield" else Analyser(_known(name)).verdicts
    except (JudgeError, SandboxError) as error:
        raise RecipeError(f"policy.reward.terms: analyser: {error}") from error

    def values(
        completions: Sequence[str], tasks: Sequence[Task], evidence: Sequence[Evidence]
    ) -> list[Any]:
        items = [
            CodeToJudge(each.code, task.language, task.cwe)
            for task, each in zip(tasks, evidence, strict=True)
        ]
        asked = list(dict.fromkeys(item for item in items if item.cwe))
        found = dict(zip(asked, verdicts(asked), strict=True)) if asked else {}
        # A task without a weakness asks for no security, as with the judge.
        return [_safety(found[item]) if item.cwe else 1.0 for item in items]

    return values


def _known(name: str) -> AnalyserName:
    return "bandit" if name == "bandit" else "semgrep"


def _safety(verdict: Verdict) -> Any:
    if verdict.label is None:
        return Failure(verdict.error or "no verdict")
    return float(verdict.label == "safe")


class _Verdicts(Protocol):
    def __call__(self, items: Sequence[CodeToJudge]) -> list[Verdict]: ...


def _codeshield() -> _Verdicts:
    detector = CodeShield()

    def verdicts(items: Sequence[CodeToJudge]) -> list[Verdict]:
        scans = detector.scan([(item.language, item.code) for item in items])
        return [
            Verdict(None, error=scan.error)
            if scan.error
            else Verdict(
                "vulnerable"
                if any(concerns(issue.cwe, item.cwe) for issue in scan.issues)
                else "safe"
            )
            for item, scan in zip(items, scans, strict=True)
        ]

    return verdicts
