"""The judge: code and weaknesses in, verdicts out.

It reads the code and the description of the weakness, never the task. Equal code is judged once in
the life of a judge. What the judge could not answer through our own fault (a failed server, a
failed generation) is a verdict without a label: the code stays unscored, never "vulnerable".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seccoderx_lite import cwe
from seccoderx_lite.generation import EndpointGenerator, Generator, RoleGenerator
from seccoderx_lite.prompting import parse_verdict, render_judge_prompt
from seccoderx_lite.recipe import JudgeRecipe
from seccoderx_lite.records import LabelledCode, Language, Verdict

if TYPE_CHECKING:  # these import torch
    from seccoderx_lite.roles import Base, Role


@dataclass(frozen=True, slots=True)
class CodeToJudge:
    """One piece of code and the weaknesses to look for."""

    code: str
    language: Language
    cwe: tuple[str, ...]


def judge_prompt(item: CodeToJudge, recipe: JudgeRecipe) -> str:
    """Return the prompt for one piece of code, as the judge is trained on and asked with."""
    entries = [cwe.get(identifier) for identifier in item.cwe]
    return render_judge_prompt(
        item.code,
        item.language,
        [(entry.id, entry.short_name, entry.description) for entry in entries],
        strip_comments=recipe.strip_comments,
        max_code_chars=recipe.max_code_chars,
    )


class Judge:
    """Gives verdicts with the `reason` mode: think, then answer."""

    def __init__(self, generator: Generator, recipe: JudgeRecipe) -> None:
        self.generator = generator
        self._recipe = recipe
        self._known: dict[CodeToJudge, Verdict] = {}

    @classmethod
    def on(cls, base: "Base", recipe: JudgeRecipe, role: "Role" = "judge") -> "Judge":
        """Return the judge that acts on a loaded base; as `reference` the bare base judges."""
        return cls(RoleGenerator(base, role, recipe.batch_size), recipe)

    @classmethod
    def at_endpoint(cls, recipe: JudgeRecipe) -> "Judge":
        """Return the judge behind `recipe.endpoint`."""
        if recipe.endpoint is None:
            raise ValueError("recipe.endpoint is not set")
        return cls(EndpointGenerator(recipe.endpoint), recipe)

    def verdicts(self, items: Sequence[CodeToJudge]) -> list[Verdict]:
        """Return one verdict a piece of code, in order; greedy, so equal code gets equal ones."""
        new = [item for item in dict.fromkeys(items) if item not in self._known]
        failed: dict[CodeToJudge, Verdict] = {}
        if new:
            answers = self.generator.generate(
                [judge_prompt(item, self._recipe) for item in new],
                max_new_tokens=self._recipe.max_new_tokens,
                temperature=0.0,
            )
            for item, answer in zip(new, answers, strict=True):
                if answer is None:
                    failed[item] = Verdict(None, error="the judge gave no answer")
                else:
                    self._known[item] = Verdict(parse_verdict(answer), answer)
        return [self._known.get(item) or failed[item] for item in items]


def judge_accuracy(judge: Judge, labelled: Sequence[LabelledCode]) -> dict[str, float]:
    """Return accuracy, unclear share and unscored count on labelled code.

    An unclear verdict counts as wrong; one that failed through our fault is left out.
    """
    verdicts = judge.verdicts([CodeToJudge(row.code, row.language, row.cwe) for row in labelled])
    scored = [
        (row, verdict) for row, verdict in zip(labelled, verdicts, strict=True) if verdict.label
    ]
    right = sum((verdict.label == "vulnerable") == row.is_vulnerable and verdict.label != "unclear"
                for row, verdict in scored)  # fmt: skip
    unclear = sum(verdict.label == "unclear" for _, verdict in scored)
    count = max(len(scored), 1)
    return {
        "accuracy": right / count,
        "unclear_share": unclear / count,
        "n": float(len(scored)),
        "unscored": float(len(labelled) - len(scored)),
    }
