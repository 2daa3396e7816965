"""The recipe of `synth`: from vulnerable code to tasks that invite the same weakness.

It is read like the recipe of a training run (see `recipe`): strict, all faults at once.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from seccoderx_lite.core.records import Language
from seccoderx_lite.recipe.recipe import RunName
from seccoderx_lite.recipe.sections import (
    Count,
    ModelRecipe,
    NotNegative,
    Positive,
    SandboxRecipe,
    Section,
    Share,
    Text,
    http_address,
)

_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
TEMPLATES = "builtin:templates"
"""The generator that answers by rule from the embedded templates; no language model."""


class SeedsRecipe(Section):
    """The vulnerable code everything starts from."""

    data: Text
    """SVEN, PrimeVul, labelled code, or rows with `code`, `language`, `cwe`: file, folder, hub id
    or `builtin:` name. Code that is labelled safe is passed over."""
    split: Text | None = None
    """Only rows of this split; null takes all."""
    limit: Count | None = None
    """Most seeds taken, drawn at random; null takes all."""
    max_code_chars: Count = 24_000
    """Longer code is left out."""


class GeneratorRecipe(Section):
    """Who invents scenarios and tasks: a local model, or an OpenAI-compatible server."""

    model: Text
    """Hub id or folder of a local model; with `endpoint`, the name the server knows it by.
    `builtin:templates` answers by rule from the embedded templates, for tests and demos."""
    endpoint: Annotated[Text, AfterValidator(http_address)] | None = None
    """Base address of an OpenAI-compatible server, up to and including `/v1`."""
    api_key_env: Text | None = None
    """Environment variable that holds the key; never the key itself."""
    temperature: NotNegative = 0.8
    """Sampling temperature."""
    max_new_tokens: Count = 4096
    """Longest reply."""
    quantization: Literal["nf4", "none"] = "nf4"
    """How a local model is held in memory."""
    batch_size: Count = 8
    """Prompts a local model answers at once."""
    concurrency: Count = 8
    """Requests in flight at once."""
    timeout_s: Positive = 120.0
    """Seconds to wait for one whole reply."""
    attempts: Count = 8
    """How often one request is sent before the run stops; it goes on when started again."""
    backoff_s: Positive = 1.0
    """Wait before the second attempt; doubled for each further one, up to a minute, with jitter."""
    skip_unanswered: bool = False
    """Drop a request that stays without a reply after all attempts, instead of stopping."""
    json_mode: bool = True
    """Ask the server for `response_format: json_object`; false for servers that refuse it."""
    request: dict[str, Any] = Field(default_factory=dict)
    """Further fields of each request, sent unread; null leaves one out that is sent otherwise. For
    models that want `max_completion_tokens` and their own temperature: `{max_tokens: null,
    max_completion_tokens: 8192, temperature: null}`."""
    input_price: NotNegative | None = None
    """Price of a million input tokens, in any currency."""
    output_price: NotNegative | None = None
    """Price of a million output tokens."""
    max_cost: Positive | None = None
    """Spending cap: no request is sent that could bring the sum of all replies above it."""

    @property
    def most_tokens(self) -> int:
        """Longest reply that a server is asked for."""
        given = [self.request.get(key) for key in _TOKEN_LIMITS]
        return max([self.max_new_tokens, *(n for n in given if isinstance(n, int))])

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield settings of a server where there is none, and a cap that could not hold."""
        if data.get("endpoint") is None:
            for key in ("api_key_env", "input_price", "output_price", "max_cost", "request"):
                if data.get(key) not in (None, {}):
                    yield key, "needs generator.endpoint; remove it for a local model"
            return
        request = data.get("request")
        request = request if isinstance(request, Mapping) else {}
        for key in sorted({"model", "messages", "stream", "n"} & set(request)):
            yield "request", f"must not have {key}: it is decided by the toolkit"
        if data.get("max_cost") is None:
            return
        if None in (data.get("input_price"), data.get("output_price")):
            yield "max_cost", "needs input_price and output_price"
        limits = {"max_tokens": 0, **request}
        if not any(isinstance(limits.get(key), int) for key in _TOKEN_LIMITS):
            yield "max_cost", "needs a longest reply: give request.max_completion_tokens"


class ScenariosRecipe(Section):
    """Application settings invented for each seed."""

    per_seed: Count = 5
    """Settings for a seed of a weakness with few seeds."""
    per_common_seed: Count = 3
    """Settings for a seed of a weakness with many."""
    common_from: Count = 500
    """From how many seeds on a weakness has many."""


_LANGUAGES: tuple[Language, ...] = ("python", "javascript", "c", "cpp", "java")


def _distinct(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("must not name a language twice")
    return value


class TasksRecipe(Section):
    """One coding task for each scenario."""

    languages: Annotated[list[Language], Field(min_length=1), AfterValidator(_distinct)] = Field(
        default_factory=lambda: list(_LANGUAGES)
    )
    """Languages, drawn evenly; the generator may pick another of them where the weakness cannot
    occur."""
    max_lines: Count = 300
    """Longest program a task may need, as told to the generator."""


class FilterRecipe(Section):
    """Which tasks are left out."""

    min_chars: Count = 40
    """Shortest prompt."""
    max_chars: Count = 4000
    """Longest prompt."""
    near_duplicate: Share | None = 0.7
    """Word-triple similarity (Jaccard) from which on two prompts of a language are the same task;
    null keeps them all."""
    max_per_cwe: Count | None = None
    """Most tasks of one weakness."""
    max_per_language: Count | None = None
    """Most tasks of one language."""
    counts: Text | None = None
    """JSON or YAML file of "CWE-89: 200" lines; a weakness that is not in it gets no task."""
    min_quality: Annotated[int, Field(ge=1, le=5)] | None = None
    """Least mark, of 1 to 5, the generator itself gives a task; null does not ask."""


class ReferencesRecipe(Section):
    """Greedy completions of the policy base."""

    max_new_tokens: Count = 1024
    """Longest completion."""
    batch_size: Count = 16
    """Completions generated at once."""


class TestsRecipe(Section):
    """Tests asked of the generator, and kept only where they prove themselves."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    candidates: Annotated[int, Field(ge=0)] = 4
    """Completions of the policy base to prove them on, beside the generator's own two."""
    temperature: Positive = 0.8
    """Sampling temperature of those completions."""


class SplitsRecipe(Section):
    """Shares of the seeds whose tasks are kept from training.

    Seeds that are relatives share a split: nearly the same code, one commit (`commit_link`,
    `commit_url`, `commit_id`), one CVE (`cve`, `cve_id`), or one value of a column `group` of
    your own.
    """

    validation: Share = 0.05
    """Tasks for gates while training and exporting."""
    held_out: Share = 0.15
    """Tasks to measure on."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield shares that leave nothing to train on."""
        shares = [data.get("validation", 0.05), data.get("held_out", 0.15)]
        if all(isinstance(share, int | float) for share in shares) and sum(shares) >= 1:
            yield "held_out", "with validation must be below 1, or nothing is left to train on"


Layout = Literal["tasks", "seccoderx"]
_OWN: Layout = "tasks"


class SynthRecipe(Section):
    """One synthesis of tasks."""

    name: RunName
    """Name of the run and of its folder."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of all draws: order of the seeds, languages, sampling."""
    seeds: SeedsRecipe
    """The vulnerable code everything starts from."""
    generator: GeneratorRecipe
    """Who invents scenarios and tasks."""
    model: ModelRecipe | None = None
    """The base whose policy will be trained: it writes the references. null writes none."""
    scenarios: ScenariosRecipe = ScenariosRecipe()
    """Application settings for each seed."""
    tasks: TasksRecipe = TasksRecipe()
    """One task for each scenario."""
    filter: FilterRecipe = FilterRecipe()
    """Which tasks are left out."""
    references: ReferencesRecipe = ReferencesRecipe()
    """Greedy completions of the policy base."""
    tests: TestsRecipe | None = None
    """Tests that prove themselves; null asks for none."""
    splits: SplitsRecipe = SplitsRecipe()
    """What is kept from training."""
    layouts: Annotated[list[Layout], Field(min_length=1)] = Field(default_factory=lambda: [_OWN])
    """Columns of the result: the toolkit's own, and those of the published SecCoderX sets."""
    sandbox: SandboxRecipe = SandboxRecipe()
    """Where tests are proved."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield a layout that cannot be filled."""
        layouts = data.get("layouts")
        if isinstance(layouts, list) and "seccoderx" in layouts and data.get("model") is None:
            yield "layouts", "seccoderx needs references: give the section model"
