"""Sections of a recipe about the judge: where it comes from, how it answers and is trained."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from seccoderx_lite.recipe.model import EndpointRecipe
from seccoderx_lite.recipe.section import (
    Count,
    Mark,
    OptionalPathText,
    Section,
    Share,
    Sources,
    Steps,
    Text,
    ascending,
)
from seccoderx_lite.recipe.training import GroupRecipe, SupervisedRecipe


class ColdStartRecipe(SupervisedRecipe):
    """Supervised training of the judge on labelled code with reasoning."""

    data: Annotated[Sources, Mark.PATH]
    """Labelled code: `builtin:` name, file, folder or hub id, or a list of these, drawn from in
    equal parts. With `judge.verdict: cascade`, two of three steps train direct answers; with
    direct, three of four train the token that tells the verdict."""


class AlignRecipe(GroupRecipe):
    """GRPO training of the judge on the labels of labelled code."""

    data: Annotated[Sources, Mark.PATH]
    """Labelled code: `builtin:` name, file, folder or hub id, or a list of these, drawn from in
    equal parts."""
    steps: Steps = 100
    """Optimiser steps; raise it to extend a finished run."""


class CanariesRecipe(Section):
    """Labelled code on which the judge is tested regularly while the policy trains."""

    data: Annotated[Sources | None, Mark.PATH] = None
    """Labelled code to draw from (default: that of judge.align or judge.cold_start)."""
    every: Count = 25
    """Policy steps between two tests."""
    count: Count = 128
    """Code samples per test, half of them vulnerable; drawn again for each test."""
    min_accuracy: Share = 0.7
    """The run stops if the upper end of the accuracy's 95% interval is below this."""
    refuse_chance: bool = True
    """Refuse to train the policy with a judge that may be no better than chance: the 95% interval
    of its accuracy on `count` held-out samples includes 0.5."""


class JudgeRecipe(Section):
    """Where the judge comes from, and how it answers."""

    adapter: OptionalPathText = None
    """A trained judge adapter; no judge is trained then."""
    base: OptionalPathText = None
    """A base for the judge other than `model.base`; loaded in addition, with the same
    quantisation."""
    endpoint: EndpointRecipe | None = None
    """A judge behind a server; no judge is loaded or trained then."""
    verdict: Literal["reason", "direct", "cascade"] = "reason"
    """reason: think, then answer. direct: a probability from one forward pass. cascade: direct, and
    reason only where the probability is unsure. A judge must be trained for direct and cascade."""
    unsure: (
        Annotated[list[Share], Field(min_length=2, max_length=2), AfterValidator(ascending)] | None
    ) = None
    """Probabilities [low, high] between which `cascade` reasons (default: calibrated)."""
    cache: Text | None = None
    """File that keeps verdicts for later runs (default: verdicts are cached within a run)."""
    max_new_tokens: Count = 1024
    """Longest answer of the judge."""
    batch_size: Count = 16
    """Code samples per batch."""
    strip_comments: bool = True
    """Remove comments before judging, because they can persuade the judge."""
    max_code_chars: Count = 16000
    """Longest code to judge; the rest is cut off."""
    cold_start: ColdStartRecipe | None = None
    """Supervised training of the judge."""
    align: AlignRecipe | None = None
    """GRPO training of the judge on labels."""
    canaries: CanariesRecipe = CanariesRecipe()
    """Tests of the judge while the policy trains."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        conflicts = {
            "adapter": ("cold_start", "align"),
            "base": ("cold_start", "align"),  # these train on model.base
            "endpoint": ("adapter", "base", "cold_start", "align"),
        }
        for origin, others in conflicts.items():
            for other in others:
                if data.get(origin) is not None and data.get(other) is not None:
                    yield other, f"conflicts with judge.{origin}; keep only one"
        origins = ("adapter", "base", "endpoint", "cold_start", "align")
        if all(data.get(origin) is None for origin in origins):
            yield "", f"no judge given: set one of {', '.join(origins)}"
