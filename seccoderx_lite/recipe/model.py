"""Sections of a recipe about what runs where: base model, adapters, servers, sandbox."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from seccoderx_lite.recipe.section import (
    Count,
    HttpAddress,
    Mark,
    PathText,
    Seconds,
    Section,
    Settings,
    Text,
    Texts,
    fields_set_by_toolkit,
)


class LoraRecipe(Section):
    """Size of the LoRA adapters, the same for judge and policy."""

    rank: Count = 16
    """Rank of the two LoRA matrices."""
    alpha: Count = 32
    """Scale: the adapter's output is multiplied by alpha / rank."""
    target_modules: Annotated[
        Annotated[Literal["all-linear"], Tag("name")] | Annotated[Texts, Tag("list")],
        Discriminator(lambda value: "list" if isinstance(value, list) else "name"),
    ] = "all-linear"
    """Modules that get an adapter: "all-linear", or a list of module names."""


class ModelRecipe(Section):
    """The base model: loaded once, used with different adapters by policy and judge."""

    base: PathText
    """Hub id or folder of the base model, or `builtin:tiny`."""
    quantization: Literal["nf4", "none"] = "nf4"
    """How the base is stored in memory: 4-bit NormalFloat, or unquantised."""
    backend: Literal["auto", "transformers", "unsloth"] = "auto"
    """Library that loads the model, trains and generates; auto takes the one measured faster."""
    fast_generation: Annotated[bool, Mark.NO_EFFECT] = True
    """Compute identical prompts once and remove finished completions from the batch; on a CPU also
    generate from float32 copies of the weights merged with the adapter, if they take at most 1 GiB.
    False uses transformers' own `generate` unchanged."""
    decoding: Annotated[Literal["auto", "plain", "graph"], Mark.NO_EFFECT] = "auto"
    """How fast_generation computes a token on a GPU: plain, or recorded as a CUDA graph with keys
    and values of full length; auto measures both when it first generates and takes the faster."""
    lora: LoraRecipe = LoraRecipe()
    """Size of the adapters."""
    chat_template_kwargs: Settings = Field(default_factory=dict)
    """Arguments of the base's chat template, for example `{enable_thinking: false}`; the same in
    training, rollouts, judge, evaluation and export."""
    max_prompt_tokens: Count = 2048
    """Longest prompt; tasks with a longer one are skipped and counted."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        given = data.get("chat_template_kwargs")
        for name in given if isinstance(given, Mapping) else ():
            if not str(name).isidentifier():
                yield "chat_template_kwargs", f"names are letters, digits and _ (got {name!r})"
            elif name in _SET_BY_TOOLKIT:
                yield "chat_template_kwargs", f"must not contain {name}, which the toolkit sets"


_SET_BY_TOOLKIT = ("messages", "add_generation_prompt", "continue_final_message", "tokenize")


class EndpointRecipe(Section):
    """A model served by an OpenAI-compatible server."""

    url: Annotated[
        Annotated[HttpAddress, Tag("address")]
        | Annotated[Annotated[list[HttpAddress], Field(min_length=1)], Tag("list")],
        Discriminator(lambda value: "list" if isinstance(value, list) else "address"),
    ]
    """Base URL up to and including `/v1`; several replicas in a list are asked in turn."""
    model: Text
    """The model's name on the server."""
    api_key_env: Annotated[Text | None, Mark.NO_EFFECT] = None
    """Environment variable with the API key; never the key itself."""
    timeout_s: Annotated[Seconds, Mark.NO_EFFECT] = 60.0
    """Timeout of one request in seconds."""
    concurrency: Annotated[Count, Mark.NO_EFFECT] = 8
    """Requests sent at the same time."""
    attempts: Annotated[Count, Mark.NO_EFFECT] = 5
    """Most attempts per request."""
    backoff_s: Annotated[Seconds, Mark.NO_EFFECT] = 1.0
    """Seconds before the first retry; doubled for each further one, at most 60, with jitter."""
    request: Settings = Field(default_factory=dict)
    """Further fields of each request, sent unchecked; null removes a field. For models that need
    `max_completion_tokens` and their own temperature: `{max_tokens: null,
    max_completion_tokens: 8192, temperature: null}`."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from fields_set_by_toolkit(data.get("request"))


class SandboxRecipe(Section):
    """The sandbox in which untrusted code runs."""

    isolation: Literal["strong", "confined", "limits-only"] = "confined"
    """Weakest isolation to accept; a machine that offers less stops the run."""
    timeout_s: Seconds = 10.0
    """Seconds for all tests of one completion."""
    memory_mb: Count = 512
    """Memory for the tests of one completion."""
    processes: Count = 32
    """Most processes and threads of the tests of one completion."""
    workers: Annotated[Count | None, Mark.NO_EFFECT] = None
    """Completions tested at the same time (default: the number of processors)."""
    packages: list[Text] = Field(default_factory=list)
    """Installed packages that Python code and its tests may import, for example [numpy]."""


class TasksRecipe(Section):
    """How tasks are checked before they are used."""

    check: Literal["drop", "refuse", "off"] = "drop"
    """What to do with a task whose reference fails its own tests; each reference is run once.

    drop names it and leaves it out, refuse stops the run before training, off does not run any.
    Failing only security tests counts in an evaluation, and in a training with
    policy.reward.security_tests.
    """
