"""The recipe of `synth`: from vulnerable code to coding tasks that invite the same weakness.

It is loaded like the recipe of a training run (see `recipe`): strict, all errors at once.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from seccoderx_lite.core.records import Language
from seccoderx_lite.recipe.model import ModelRecipe, SandboxRecipe
from seccoderx_lite.recipe.recipe import RunName
from seccoderx_lite.recipe.section import (
    MOST,
    Count,
    HttpAddress,
    Mark,
    NotNegative,
    OptionalPathText,
    PathText,
    Positive,
    Seconds,
    Section,
    Settings,
    Share,
    Text,
    fields_set_by_toolkit,
)

_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
TEMPLATES = "builtin:templates"
"""Name of the generator that fills in built-in templates instead of asking a language model."""


class SeedsRecipe(Section):
    """The vulnerable code to start from."""

    data: PathText
    """SVEN, PrimeVul, labelled code, or rows with `code`, `language`, `cwe`: file, folder, hub id
    or `builtin:` name. Code labelled safe is skipped."""
    split: Text | None = None
    """Use only rows of this split (default: all)."""
    limit: Count | None = None
    """Most seeds, drawn at random (default: all)."""
    max_code_chars: Count = 24_000
    """Longer code is skipped."""


class GeneratorRecipe(Section):
    """The model that writes scenarios and tasks: local, or on an OpenAI-compatible server."""

    model: PathText
    """Hub id or folder of a local model; with `endpoint`, the model's name on the server.
    `builtin:templates` fills in built-in templates without a model, for tests and demos."""
    endpoint: HttpAddress | None = None
    """Base URL of an OpenAI-compatible server, up to and including `/v1`."""
    api_key_env: Annotated[Text | None, Mark.NO_EFFECT] = None
    """Environment variable with the API key; never the key itself."""
    temperature: NotNegative = 0.8
    """Sampling temperature."""
    max_new_tokens: Count = 4096
    """Longest reply."""
    quantization: Literal["nf4", "none"] = "nf4"
    """How a local model is stored in memory."""
    batch_size: Count = 8
    """Prompts per batch of a local model."""
    concurrency: Annotated[Count, Mark.NO_EFFECT] = 8
    """Requests sent at the same time."""
    timeout_s: Annotated[Seconds, Mark.NO_EFFECT] = 120.0
    """Timeout of one request in seconds."""
    attempts: Annotated[Count, Mark.NO_EFFECT] = 8
    """Most attempts per request before the run stops; it resumes when started again."""
    backoff_s: Annotated[Seconds, Mark.NO_EFFECT] = 1.0
    """Seconds before the first retry; doubled for each further one, at most 60, with jitter."""
    skip_unanswered: bool = False
    """Skip a request that fails in all attempts, instead of stopping the run."""
    json_mode: bool = True
    """Ask the server for `response_format: json_object`; false for servers that reject it."""
    request: Settings = Field(default_factory=dict)
    """Further fields of each request, sent unchecked; null removes a field. For models that need
    `max_completion_tokens` and their own temperature: `{max_tokens: null,
    max_completion_tokens: 8192, temperature: null}`."""
    input_price: NotNegative | None = None
    """Price per million input tokens, in any currency."""
    output_price: NotNegative | None = None
    """Price per million output tokens."""
    max_cost: Annotated[Positive | None, Mark.NO_EFFECT] = None
    """Spending limit: no request is sent whose reply could make the total exceed it."""

    @property
    def most_tokens(self) -> int:
        """Longest reply that a request can ask a server for."""
        given = [self.request.get(key) for key in _TOKEN_LIMITS]
        return max([self.max_new_tokens, *(n for n in given if isinstance(n, int))])

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if data.get("endpoint") is None:
            for key in ("api_key_env", "input_price", "output_price", "max_cost", "request"):
                if data.get(key) not in (None, {}):
                    yield key, "applies only to a server; set generator.endpoint or remove it"
            return
        request = data.get("request")
        request = request if isinstance(request, Mapping) else {}
        yield from fields_set_by_toolkit(request)
        if data.get("max_cost") is None:
            return
        if None in (data.get("input_price"), data.get("output_price")):
            yield "max_cost", "requires input_price and output_price"
        limits = {"max_tokens": 0, **request}
        if not any(isinstance(limits.get(key), int) for key in _TOKEN_LIMITS):
            yield "max_cost", "requires a longest reply; set request.max_completion_tokens"


class ScenariosRecipe(Section):
    """Realistic application scenarios written for each seed."""

    per_seed: Count = 5
    """Scenarios per seed of a rare weakness."""
    per_common_seed: Count = 3
    """Scenarios per seed of a common weakness."""
    common_from: Count = 500
    """A weakness with at least this many seeds counts as common."""


_LANGUAGES: tuple[Language, ...] = ("python", "javascript", "c", "cpp", "java")


def _distinct(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("must not contain a language twice")
    return value


class TasksRecipe(Section):
    """One coding task per scenario."""

    languages: Annotated[list[Language], Field(min_length=1), AfterValidator(_distinct)] = Field(
        default_factory=lambda: list(_LANGUAGES)
    )
    """Languages, drawn evenly; the generator may choose another one of them if the weakness cannot
    occur in the drawn one."""
    max_lines: Count = 300
    """Longest program a task may need, as stated in the generator's prompt."""


class FilterRecipe(Section):
    """Which tasks are dropped."""

    min_chars: Count = 40
    """Shortest prompt."""
    max_chars: Count = 4000
    """Longest prompt."""
    near_duplicate: Share | None = 0.7
    """Two prompts in one language count as duplicates from this Jaccard similarity of their word
    triples; null keeps all."""
    max_per_cwe: Count | None = None
    """Most tasks per weakness."""
    max_per_language: Count | None = None
    """Most tasks per language."""
    counts: OptionalPathText = None
    """JSON or YAML file of "CWE-89: 200" lines; a weakness that it does not list gets no task."""
    min_quality: Annotated[int, Field(ge=1, le=5)] | None = None
    """Lowest quality, from 1 to 5, by the generator's own rating; null skips the rating."""


class ReferencesRecipe(Section):
    """Greedy completions of the policy base."""

    max_new_tokens: Count = 1024
    """Longest completion."""
    batch_size: Count = 16
    """Completions generated per batch."""


class TestsRecipe(Section):
    """Tests written by the generator, and kept only if they prove themselves."""

    __test__ = False  # pytest would collect it by its name

    candidates: Annotated[int, Field(ge=0, le=MOST)] = 4
    """Completions of the policy base to prove them on, in addition to the generator's own two."""
    temperature: Positive = 0.8
    """Sampling temperature of those completions."""


class SplitsRecipe(Section):
    """Shares of the seeds whose tasks are not used for training.

    Related seeds get the same split: nearly the same code, the same commit (`commit_link`,
    `commit_url`, `commit_id`), the same CVE (`cve`, `cve_id`), or the same value in a column
    `group`.
    """

    validation: Share = 0.05
    """Tasks for checks during training and export."""
    held_out: Share = 0.15
    """Tasks for evaluation."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        shares = [data.get("validation", 0.05), data.get("held_out", 0.15)]
        if all(isinstance(share, int | float) for share in shares) and sum(shares) >= 1:
            yield "held_out", "plus validation must be below 1, to leave tasks for training"


Layout = Literal["tasks", "seccoderx"]
_OWN: Layout = "tasks"


class SynthRecipe(Section):
    """One synthesis of tasks."""

    name: Annotated[RunName, Mark.NO_EFFECT]
    """Name of the run and of its folder."""
    seed: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Seed of everything random: order of the seeds, languages, sampling."""
    seeds: SeedsRecipe
    """The vulnerable code to start from."""
    generator: GeneratorRecipe
    """The model that writes scenarios and tasks."""
    model: ModelRecipe | None = None
    """The base model of the policy to be trained; it writes the references (default: none)."""
    scenarios: ScenariosRecipe = ScenariosRecipe()
    """Application scenarios per seed."""
    tasks: TasksRecipe = TasksRecipe()
    """One task per scenario."""
    filter: FilterRecipe = FilterRecipe()
    """Which tasks are dropped."""
    references: ReferencesRecipe = ReferencesRecipe()
    """Greedy completions of the policy base."""
    tests: TestsRecipe | None = None
    """Tests for the tasks; null writes none."""
    splits: SplitsRecipe = SplitsRecipe()
    """What is not used for training."""
    layouts: Annotated[list[Layout], Field(min_length=1)] = Field(default_factory=lambda: [_OWN])
    """Columns of the result: the toolkit's own, those of the published SecCoderX sets, or both."""
    sandbox: SandboxRecipe = SandboxRecipe()
    """Where the tests run."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        layouts = data.get("layouts")
        if isinstance(layouts, list) and "seccoderx" in layouts and data.get("model") is None:
            yield "layouts", "seccoderx requires references; add a section model"
