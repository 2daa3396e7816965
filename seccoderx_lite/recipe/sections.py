"""The sections of a recipe: one strict model each.

The string under a field is its documentation. Settings of the trainers that are not named here go
through `trainer:` unread.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

_TRAINER_NAMES = {
    "learning_rate": "learning_rate",
    "max_steps": "steps",
    "save_steps": "save_every",
    "output_dir": "--run-folder",
    "seed": "seed",
    "report_to": "report_to",
}
_GRPO_NAMES = {
    **_TRAINER_NAMES,
    "num_generations": "group_size",
    "beta": "kl",
    "temperature": "temperature",
    "max_completion_length": "max_completion_tokens",
}


def _decided_twice(data: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Settings under `trainer` that a field of the recipe decides."""
    trainer = data.get("trainer")
    given: Mapping[str, Any] = trainer if isinstance(trainer, Mapping) else {}
    for name, field in names.items():
        if name in given:
            yield f"trainer.{name}", f"is decided by {field}; remove it here"


class Section(BaseModel):
    """What all sections share: no unknown keys, no silent conversions, no later change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if faults := list(self.contradictions(self.model_dump())):
            told = "; ".join(f"{key}: {rule}" for key, rule in faults)
            raise PydanticCustomError("contradiction", "{told}", {"told": told, "faults": faults})
        return self

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield key and rule of each disagreement between fields, from plain, unchecked data.

        Plain data, so that a recipe with a wrong number elsewhere still hears of all its faults.
        """
        yield from ()


class LoraRecipe(Section):
    """Size and place of the LoRA adapters; the judge and the policy share it."""

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
    """The base model that sits in memory once and plays every role."""

    base: Text
    """Hub id or folder of the base model, or `builtin:tiny`."""
    quantization: Literal["nf4", "none"] = "nf4"
    """How the base is held in memory: 4-bit NormalFloat, or unquantised."""
    backend: Literal["auto", "transformers", "unsloth"] = "auto"
    """What loads the model, trains and generates; auto takes what was measured to be fastest."""
    fast_generation: bool = True
    """Read equal prompts once and let finished completions leave the batch; on a CPU also generate
    from float32 copies of the weights with the adapter added, where they take 1 GiB at most. False
    for transformers' own way."""
    lora: LoraRecipe = LoraRecipe()
    """Size and place of the adapters."""
    max_prompt_tokens: Count = 2048
    """Longest prompt; tasks with a longer one are left out and counted."""


def _ascending(value: list[float]) -> list[float]:
    if value[0] >= value[1]:
        raise ValueError("must be [low, high] with low below high")
    return value


def http_address(value: str) -> str:
    """Return the address of a server as it is; ValueError for what is none."""
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value


HttpAddress = Annotated[Text, AfterValidator(http_address)]


class EndpointRecipe(Section):
    """A judge behind an OpenAI-compatible server."""

    url: Annotated[
        Annotated[HttpAddress, Tag("address")]
        | Annotated[Annotated[list[HttpAddress], Field(min_length=1)], Tag("list")],
        Discriminator(lambda value: "list" if isinstance(value, list) else "address"),
    ]
    """Base address up to and including `/v1`; a list of replicas is asked in turn."""
    model: Text
    """Name the server knows the judge by."""
    api_key_env: Text | None = None
    """Environment variable that holds the key; never the key itself."""
    timeout_s: Positive = 60.0
    """Seconds to wait for one answer."""
    concurrency: Count = 8
    """Requests in flight at once."""
    attempts: Count = 5
    """How often one request is sent before its answer is given up."""
    backoff_s: Positive = 1.0
    """Wait before the second attempt; doubled for each further one, up to a minute, with jitter."""


class ColdStartRecipe(Section):
    """Supervised training of the judge on labelled code with reasoning."""

    data: Text
    """Labelled code: `builtin:` name, file, folder or hub id."""
    steps: Count = 200
    """Optimiser steps. With `judge.verdict: cascade` two of three train direct answers."""
    batch_size: Count = 16
    """Examples a step."""
    learning_rate: Positive = 2e-4
    """Peak learning rate."""
    max_tokens: Count = 2048
    """Longest prompt with its answer; longer examples are left out and counted."""
    save_every: Count = 50
    """Steps between two checkpoints."""
    trainer: dict[str, Any] = {}
    """More settings for TRL's SFTConfig, passed on unread."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield trainer settings that a field of the recipe already decides."""
        yield from _decided_twice(data, {**_TRAINER_NAMES, "max_length": "max_tokens"})


class AlignRecipe(Section):
    """GRPO of the judge on the labels of labelled code."""

    data: Text
    """Labelled code: `builtin:` name, file, folder or hub id."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Answers sampled for one piece of code."""
    prompts_per_step: Count = 4
    """Pieces of code an optimiser step."""
    steps: Count = 100
    """Optimiser steps."""
    learning_rate: Positive = 1e-5
    """Peak learning rate."""
    kl: NotNegative = 0.01
    """Weight of the KL term against the judge after its cold start."""
    temperature: Positive = 0.8
    """Sampling temperature of the answers."""
    max_completion_tokens: Count = 1024
    """Longest answer."""
    save_every: Count = 25
    """Steps between two checkpoints."""
    trainer: dict[str, Any] = {}
    """More settings for TRL's GRPOConfig, passed on unread."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield trainer settings that a field of the recipe already decides."""
        yield from _decided_twice(data, _GRPO_NAMES)


class CanariesRecipe(Section):
    """Code with known truth that the judge meets now and then while the policy trains."""

    data: Text | None = None
    """Labelled code to draw from; null takes that of judge.align or judge.cold_start."""
    every: Count = 10
    """Policy steps between two rounds of canaries."""
    count: Count = 16
    """Pieces of code a round, half of them vulnerable."""
    min_accuracy: Share = 0.7
    """A round below this accuracy stops the run."""


class JudgeRecipe(Section):
    """Where the judge comes from, and how it answers."""

    adapter: Text | None = None
    """A trained judge adapter; then nothing of the judge is trained."""
    base: Text | None = None
    """Another base for the judge than `model.base`, loaded beside it and held in memory alike."""
    endpoint: EndpointRecipe | None = None
    """A judge behind a server; then nothing of the judge is loaded or trained."""
    verdict: Literal["reason", "direct", "cascade"] = "reason"
    """How it answers: think, then answer; a probability in one pass; or that, and thinking only
    where the probability is unsure. The last two need a judge that was trained for them."""
    unsure: (
        Annotated[list[Share], Field(min_length=2, max_length=2), AfterValidator(_ascending)] | None
    ) = None
    """Band of probabilities that `cascade` reasons about; null takes the calibrated one."""
    cache: Text | None = None
    """File that keeps verdicts between runs; null remembers them within a run only."""
    max_new_tokens: Count = 1024
    """Longest answer of the judge."""
    batch_size: Count = 16
    """Pieces of code judged at once."""
    strip_comments: bool = True
    """Take comments out of the code before judging, since they can talk the judge round."""
    max_code_chars: Count = 16000
    """Longest code that is judged; what is beyond is cut."""
    cold_start: ColdStartRecipe | None = None
    """Supervised training of the judge."""
    align: AlignRecipe | None = None
    """GRPO of the judge on labels."""
    canaries: CanariesRecipe = CanariesRecipe()
    """Watch over the judge while the policy trains."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield origins of the judge that exclude each other, or that there is none."""
        excluded = {
            "adapter": ("cold_start", "align"),
            "base": ("cold_start", "align"),  # these train on model.base
            "endpoint": ("adapter", "base", "cold_start", "align"),
        }
        for origin, others in excluded.items():
            for other in others:
                if data.get(origin) is not None and data.get(other) is not None:
                    yield other, f"cannot stand beside judge.{origin}; remove one of the two"
        origins = ("adapter", "base", "endpoint", "cold_start", "align")
        if all(data.get(origin) is None for origin in origins):
            yield "", f"says nowhere what the judge is; give one of {', '.join(origins)}"


class RewardRecipe(Section):
    """What a completion is rewarded for."""

    formula: Literal["guarded", "seccoderx"] = "guarded"
    """The guarded composite, or the original one of SecCoderX to the letter."""
    judge: bool = True
    """Reward the judge's verdict."""
    graded_verdict: bool = False
    """Pay the judge's probability of safe instead of its yes or no, where it gives one; breaks ties
    in small groups."""
    functional_tests: bool = True
    """Reward passing the functional tests of a task that has some; only `guarded` does. They run in
    any case, for metrics and alarms."""
    security_tests: bool = False
    """Reward passing the attacking tests too; they then no longer are an independent measure."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict the formula or each other."""
        if data.get("security_tests") is True and data.get("functional_tests") is False:
            yield "functional_tests", "must be true with security_tests: function gates security"
        if data.get("formula") == "seccoderx":
            if data.get("judge") is False:
                yield "judge", "must be true with formula seccoderx, which rewards the verdict"
            if data.get("graded_verdict") is True:
                yield "graded_verdict", "must be false with formula seccoderx, which pays yes or no"
            if data.get("security_tests") is True:
                yield "security_tests", "must be false with formula seccoderx, which has no tests"


class GrpoRecipe(Section):
    """The GRPO loop of the policy."""

    group_size: Annotated[int, Field(ge=2)] = 8
    """Completions sampled for one task; their rewards are compared with each other."""
    prompts_per_step: Count = 4
    """Tasks an optimiser step."""
    steps: Count = 300
    """Optimiser steps."""
    learning_rate: Positive = 1e-5
    """Peak learning rate."""
    kl: NotNegative = 0.01
    """Weight of the KL term against the base model; 0 switches it off."""
    temperature: Positive = 0.8
    """Sampling temperature of the rollouts."""
    max_completion_tokens: Count = 1024
    """Longest completion."""
    rollout_engine: Literal["generate", "vllm"] = "generate"
    """What samples the rollouts: the model itself, or vLLM in the same process on the same GPU."""
    save_every: Count = 25
    """Steps between two checkpoints; a killed run loses at most this many."""
    trainer: dict[str, Any] = {}
    """More settings for TRL's GRPOConfig, passed on unread."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield trainer settings that a field of the recipe already decides."""
        engine = {"use_vllm": "rollout_engine", "vllm_mode": "rollout_engine"}
        yield from _decided_twice(data, {**_GRPO_NAMES, **engine})


class AlarmsRecipe(Section):
    """Thresholds over the last `window` steps that raise an alarm; null switches one off."""

    reward_hacking: Share | None = 0.2
    """Share of completions the judge calls safe while their security tests fail."""
    stub_share: Share | None = 0.3
    """Share of completions without code, with a stub or a refusal, or that do not parse."""
    length_ratio: (
        Annotated[list[Positive], Field(min_length=2, max_length=2), AfterValidator(_ascending)]
        | None
    ) = Field(default_factory=lambda: [0.4, 2.5])
    """Lowest and highest mean of completion lines over reference lines."""
    zero_variance_share: Share | None = 0.8
    """Share of rollout groups that teach nothing (all rewards are equal) though not all is won."""
    verdict_saturation: Share | None = 0.98
    """Share of completions that get the same verdict; a safe one that attacking tests confirm is
    none of them."""
    unscored_share: Share | None = 0.2
    """Share of completions that got no reward, because the judge or the sandbox failed."""
    window: Count = 10
    """Steps over which the shares are taken."""
    action: Literal["warn", "stop"] = "warn"
    """What an alarm does besides being shown and recorded."""


class PolicyRecipe(Section):
    """Alignment of the policy by GRPO."""

    tasks: Text
    """Training tasks: `builtin:` name, file, folder or hub id."""
    reward: RewardRecipe = RewardRecipe()
    """What a completion is rewarded for."""
    grpo: GrpoRecipe = GrpoRecipe()
    """The training loop."""
    alarms: AlarmsRecipe = AlarmsRecipe()
    """When to warn or stop."""


class FunctionalityJudgeRecipe(Section):
    """The model that says how far a completion of CyberSecEval does what was asked."""

    base: Text | None = None
    """Hub id or folder of a model that is loaded for it, in 4 bits."""
    endpoint: EndpointRecipe | None = None
    """A model behind a server instead."""
    max_new_tokens: Count = 512
    """Longest judgement."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield that not exactly one model is named."""
        if (data.get("base") is None) == (data.get("endpoint") is None):
            yield "", "needs exactly one of base and endpoint"


class EvaluateRecipe(Section):
    """How the base and the aligned policy are measured, both alike."""

    suites: Texts
    """`builtin:tiny`, a file of tasks with tests, `cweval:CHECKOUT` or `cyberseceval:FILE`."""
    adapter: Text | None = None
    """Policy adapter to measure; null takes the one this run trains."""
    endpoint: EndpointRecipe | None = None
    """Measure a model behind a server instead of `model.base`."""
    measure_base: bool = True
    """Measure the bare base too where there is an adapter, so that the two can be compared."""
    functionality_judge: FunctionalityJudgeRecipe | None = None
    """Scores function in CyberSecEval; without one only security is measured there."""
    samples: Count = 4
    """Completions sampled for one task."""
    temperature: Positive | None = None
    """Sampling temperature; null takes that of `policy.grpo`."""
    greedy: bool = True
    """Measure one greedy completion a task beside the samples."""
    max_completion_tokens: Count = 1024
    """Longest completion."""
    batch_size: Count = 16
    """Completions generated at once."""
    limit: Count | None = None
    """Most tasks taken of a suite; null takes all."""
    seed: int = 0
    """Seed of the sampling and of the bootstrap."""

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield two models where only one can be measured."""
        if data.get("endpoint") is not None and data.get("adapter") is not None:
            yield "adapter", "cannot stand beside evaluate.endpoint; remove one of the two"


class ExportRecipe(Section):
    """What the run hands over, and how far it may stray from the trained policy."""

    formats: Annotated[list[Literal["adapter", "merged", "gguf"]], Field(min_length=1)] = [
        "adapter"
    ]
    """The adapter alone, a merged 16-bit model, and that as one GGUF file for llama.cpp."""
    llama_cpp: Text | None = None
    """Folder of a llama.cpp checkout, for gguf; null looks for an installed converter."""
    merge_into: Literal["base", "nf4"] = "base"
    """Merge into the 16-bit base, or into its NF4 round trip held in 16 bits."""
    max_logit_difference: Positive = 1.0
    """Largest mean absolute difference of the export's logits from the live policy's."""
    max_esr_drop: Share = 0.05
    """Largest fall of ESR from the live policy to the export; that of one task is none."""
    gate_tasks: Count = 16
    """Held-out tasks on which that fall is measured."""


class SandboxRecipe(Section):
    """Where untrusted code runs."""

    isolation: Literal["strong", "confined", "limits-only"] = "confined"
    """Least isolation that is accepted; a machine that offers less stops the run."""
    timeout_s: Positive = 10.0
    """Wall time for the tests of one completion."""
    memory_mb: Count = 512
    """Memory for the tests of one completion."""
    processes: Count = 32
    """Processes and threads the tests of one completion may have."""
    workers: Count | None = None
    """Completions tested at once; null takes the number of processors."""
