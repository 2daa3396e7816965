"""The judge: code and weaknesses in, verdicts out.

It reads the code and the description of the weakness, never the task, and answers in one of three
modes with the same adapter:

    reason    generates reasoning, then the verdict, as in SecCoderX
    direct    gives the probability of "Vulnerable" in one forward pass, without generating
    cascade   direct for all; reason only where the probability is in the unsure band

Identical code is judged once per run (up to `MAX_REMEMBERED` verdicts), or once ever with
`judge.cache`. If a server or a generation fails, the verdict has no label: the code is unscored,
never "vulnerable".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from seccoderx_lite.core import cwe
from seccoderx_lite.core.records import LabelledCode, Language, Verdict
from seccoderx_lite.judge.cache import VerdictCache
from seccoderx_lite.judge.prompt import prompt_prefix, render_judge_prompt
from seccoderx_lite.judge.unsure_band import UNSURE_BAND, after_reasoning
from seccoderx_lite.judge.verdict import VerdictForm, judge_answer, parse_verdict
from seccoderx_lite.models.endpoint_generator import EndpointGenerator
from seccoderx_lite.models.generation import Generator, RoleGenerator
from seccoderx_lite.recipe.recipe import JudgeRecipe

if TYPE_CHECKING:  # these import torch
    from seccoderx_lite.models.adapters import Role
    from seccoderx_lite.models.base import Base


_NO_ANSWER = "the judge gave no answer"
MAX_REMEMBERED = 10_000
"""Verdicts that a judge keeps in memory; the oldest are dropped first."""


@dataclass(frozen=True, slots=True)
class CodeToJudge:
    """One piece of code and the weaknesses to look for."""

    code: str
    language: Language
    cwe: tuple[str, ...]


def judge_prompt(item: CodeToJudge, recipe: JudgeRecipe, form: VerdictForm = "reason") -> str:
    """Return the prompt for one piece of code, the same in training and in use."""
    return render_judge_prompt(
        item.code,
        item.language,
        _weaknesses(item),
        form=form,
        strip_comments=recipe.strip_comments,
        max_code_chars=recipe.max_code_chars,
    )


def _weaknesses(item: CodeToJudge) -> list[tuple[str, str, str]]:
    entries = [cwe.get(identifier) for identifier in item.cwe]
    return [(entry.id, entry.short_name, entry.description) for entry in entries]


def verdict_forms(recipe: JudgeRecipe) -> tuple[VerdictForm, ...]:
    """Return the forms of answer that a judge of this recipe must be trained on."""
    return ("reason", "direct") if recipe.verdict == "cascade" else (recipe.verdict,)


class Judge:
    """Gives verdicts in the mode of its recipe."""

    def __init__(
        self,
        generator: Generator,
        recipe: JudgeRecipe,
        unsure: tuple[float, float] = UNSURE_BAND,
    ) -> None:
        """Judge with `generator`; `recipe.unsure` overrides `unsure`, the band of `cascade`."""
        self.generator = generator
        self.unsure = (recipe.unsure[0], recipe.unsure[1]) if recipe.unsure else unsure
        self._recipe = recipe
        self._known: dict[CodeToJudge, Verdict] = {}
        self._cache: VerdictCache | None = None

    @classmethod
    def on(
        cls,
        base: "Base",
        recipe: JudgeRecipe,
        role: "Role" = "judge",
        unsure: tuple[float, float] = UNSURE_BAND,
    ) -> "Judge":
        """Return the judge on a loaded base; role `reference` judges without an adapter."""
        return cls(RoleGenerator(base, role, recipe.batch_size), recipe, unsure)

    @classmethod
    def at_endpoint(cls, recipe: JudgeRecipe) -> "Judge":
        """Return the judge behind `recipe.endpoint`."""
        if recipe.endpoint is None:
            raise ValueError("recipe.endpoint is not set")
        return cls(EndpointGenerator(recipe.endpoint), recipe)

    def answering_with(self, generator: Generator) -> "Judge":
        """Return the same judge with another generator."""
        return Judge(generator, self._recipe, self.unsure)

    def without_memory(self) -> "Judge":
        """Return the same judge without cached or remembered verdicts."""
        return Judge(self.generator, self._recipe.model_copy(update={"cache": None}), self.unsure)

    @property
    def is_on_cpu(self) -> bool:
        """True if it competes with other work for this machine's CPU cores."""
        return isinstance(self.generator, RoleGenerator) and self.generator.is_on_cpu

    def verdicts(self, items: Sequence[CodeToJudge]) -> list[Verdict]:
        """Return one verdict per item, in order; greedy, so equal code gets equal verdicts."""
        self._recall(items)
        new = [item for item in dict.fromkeys(items) if item not in self._known]
        found = dict(zip(new, self._judge(new), strict=True))
        verdicts = [self._known.get(item) or found[item] for item in items]
        self._remember({item: verdict for item, verdict in found.items() if verdict.label})
        return verdicts

    def _recall(self, items: Sequence[CodeToJudge]) -> None:
        if self._recipe.cache is None:
            return
        if self._cache is None:
            self._cache = VerdictCache(Path(self._recipe.cache), self._identity())
        for item in set(items) - self._known.keys():
            if verdict := self._cache.get(judge_prompt(item, self._recipe)):
                self._known[item] = verdict

    def _remember(self, verdicts: dict[CodeToJudge, Verdict]) -> None:
        self._known |= verdicts
        for item in list(islice(self._known, max(0, len(self._known) - MAX_REMEMBERED))):
            del self._known[item]
        if self._cache:
            self._cache.put({judge_prompt(item, self._recipe): v for item, v in verdicts.items()})

    def _identity(self) -> str:
        """The cache key of everything but the prompt that a verdict depends on."""
        band = self.unsure if self._recipe.verdict == "cascade" else None
        mode = (self._recipe.verdict, band, self._recipe.max_new_tokens)
        return f"{self.generator.identity()} {mode}"

    def _judge(self, items: Sequence[CodeToJudge]) -> list[Verdict]:
        if self._recipe.verdict == "reason":
            return self.reasoned(items)
        verdicts = self.direct(items)
        if self._recipe.verdict == "direct":
            return verdicts
        low, high = self.unsure
        unsure = [
            index
            for index, verdict in enumerate(verdicts)
            if verdict.p_vulnerable is not None and low < verdict.p_vulnerable < high
        ]
        for index, second in zip(unsure, self.reasoned([items[i] for i in unsure]), strict=True):
            verdicts[index] = after_reasoning(verdicts[index], second)
        return verdicts

    def reasoned(self, items: Sequence[CodeToJudge]) -> list[Verdict]:
        """Return verdicts with reasoning, whatever the recipe's mode."""
        if not items:
            return []
        answers = self.generator.generate(
            [judge_prompt(item, self._recipe, "reason") for item in items],
            max_new_tokens=self._recipe.max_new_tokens,
            temperature=0.0,
        )
        return [reasoned_verdict(answer) for answer in answers]

    def direct(self, items: Sequence[CodeToJudge]) -> list[Verdict]:
        """Return verdicts with a probability and no reasoning, whatever the recipe's mode."""
        if not items:
            return []
        probabilities = self.generator.answer_probabilities(
            [judge_prompt(item, self._recipe, "direct") for item in items],
            [prompt_prefix(item.language, _weaknesses(item)) for item in items],
            (judge_answer(True), judge_answer(False)),
        )
        return [
            Verdict(None, error=_NO_ANSWER)
            if p is None
            else Verdict("vulnerable" if p >= 0.5 else "safe", p_vulnerable=p)
            for p in probabilities
        ]


def reasoned_verdict(answer: str | None) -> Verdict:
    """Return the verdict that a judge wrote; without a label if it gave no answer."""
    if answer is None:
        return Verdict(None, error=_NO_ANSWER)
    return Verdict(parse_verdict(answer), answer)


def judge_accuracy(judge: Judge, labelled: Sequence[LabelledCode]) -> dict[str, float | None]:
    """Return accuracy, unclear share, number scored and number unscored on labelled code.

    An unclear verdict counts as wrong. Unscored code is excluded from both shares, which are None
    if nothing was scored.
    """
    verdicts = judge.verdicts([CodeToJudge(row.code, row.language, row.cwe) for row in labelled])
    scored = [
        (row, verdict) for row, verdict in zip(labelled, verdicts, strict=True) if verdict.label
    ]
    right = sum(verdict.is_right(row.is_vulnerable) for row, verdict in scored)
    unclear = sum(verdict.label == "unclear" for _, verdict in scored)
    count = len(scored)
    return {
        "accuracy": right / count if count else None,
        "unclear_share": unclear / count if count else None,
        "n": float(count),
        "unscored": float(len(labelled) - len(scored)),
    }
