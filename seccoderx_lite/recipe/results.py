"""Sections of a recipe about a run's results: what is measured, and what is exported."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from seccoderx_lite.recipe.model import EndpointRecipe
from seccoderx_lite.recipe.section import (
    MOST,
    Count,
    Mark,
    OptionalPathText,
    Positive,
    Section,
    Share,
    Text,
    Texts,
)

Format = Literal["adapter", "merged", "gguf", "gguf-q8_0", "gguf-q4_k_m"]
_ADAPTER: Format = "adapter"
BENCHMARKS = (
    "cweval",
    "cyberseceval",
    "seccodeplt",
    "seccodeplt-policy",
    "humaneval",
    "humanevalplus",
    "mbppplus",
    "humaneval-complete",
    "humanevalplus-complete",
    "xscode",
)
"""What a suite's name may begin with, before `:` and the benchmark's file, folder or hub id."""


class FunctionalityJudgeRecipe(Section):
    """The model that grades what tests cannot, such as functionality in CyberSecEval."""

    base: OptionalPathText = None
    """Hub id or folder of a model to load for it, in 4 bits."""
    endpoint: EndpointRecipe | None = None
    """A model behind a server instead."""
    max_new_tokens: Count = 512
    """Longest answer."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if (data.get("base") is None) == (data.get("endpoint") is None):
            yield "", "set exactly one of base and endpoint"


class EvaluateRecipe(Section):
    """How the base and the trained policy are measured, both in the same way."""

    suites: Annotated[Texts, Mark.PATH]
    """`builtin:tiny`, a file of tasks with tests, or `BENCHMARK:PLACE` such as
    `seccodeplt:FILE`, `cweval:CHECKOUT` or `cyberseceval:FILE`."""
    adapter: OptionalPathText = None
    """Policy adapter to measure (default: the one that this run trains)."""
    endpoint: EndpointRecipe | None = None
    """Measure a model behind a server instead of `model.base`."""
    measure_base: bool = True
    """With an adapter, measure the bare base as well, to compare the two."""
    functionality_judge: FunctionalityJudgeRecipe | None = None
    """Grades what tests cannot: functionality in CyberSecEval, SecCodePLT's rules in words.
    Without it they are left out."""
    samples: Count = 4
    """Completions sampled per task."""
    temperature: Positive | None = None
    """Sampling temperature (default: that of `policy.grpo`)."""
    greedy: bool = True
    """Also measure one greedy completion per task."""
    max_completion_tokens: Count = 1024
    """Longest completion."""
    batch_size: Count = 16
    """Completions generated per batch."""
    limit: Count | None = None
    """Most tasks per suite (default: all)."""
    seed: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Seed of sampling and bootstrap."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if data.get("endpoint") is not None and data.get("adapter") is not None:
            yield "adapter", "conflicts with evaluate.endpoint; keep only one"


class ExportRecipe(Section):
    """What the run exports, and how far an export may differ from the trained policy."""

    formats: Annotated[list[Format], Field(min_length=1)] = Field(
        default_factory=lambda: [_ADAPTER]
    )
    """`adapter`: the adapter alone; `merged`: a merged 16-bit model; `gguf`, `gguf-q8_0`,
    `gguf-q4_k_m`: that model as one GGUF file for llama.cpp and Ollama, in 16, 8 or about 5 bits
    per weight."""
    llama_cpp: Text | None = None
    """Folder of a llama.cpp checkout, for gguf (default: an installed converter, and
    `llama-quantize` on the PATH)."""
    merge_into: Literal["base", "nf4"] = "base"
    """Merge into the 16-bit base, or into the base quantised to NF4 and back, stored in 16 bits."""
    max_kl: Positive = 0.1
    """Largest KL divergence per token of a merged model from its base with the adapter, as a share
    of that of the bare base; an exported adapter may differ by rounding alone, and for a quantised
    GGUF file the tests decide."""
    max_esr_drop: Share = 0.05
    """Largest drop of ESR or of the functional share from the trained policy to the export; a drop
    on a single task is ignored."""
    gate_tasks: Count = 16
    """Held-out tasks on which that drop is measured."""
