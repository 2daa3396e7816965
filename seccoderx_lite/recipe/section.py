"""What every section of a recipe is made of: the strict model, field types, and marks on fields.

The string under a field is its documentation.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

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

from seccoderx_lite.recipe.reading import section_of


class Mark(Enum):
    """Metadata of a field, written `Annotated[type, mark]`; see `marked_keys`."""

    PATH = "may be a path, which is relative to the folder of the recipe"
    NO_EFFECT = "does not change the result: another value is still the same run"
    CAN_GROW = "can be raised in a run folder: the run resumes from its last checkpoint"


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
PathText = Annotated[Text, Mark.PATH]
OptionalPathText = Annotated[Text | None, Mark.PATH]
Sources = Annotated[
    Annotated[Text, Tag("one")] | Annotated[Texts, Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "one"),
]
"""One source of data or several."""


def listed(sources: str | list[str]) -> str:
    """Return sources as a reader sees them.

    >>> listed(["a.jsonl", "b.jsonl"])
    'a.jsonl, b.jsonl'
    """
    return sources if isinstance(sources, str) else ", ".join(sources)


MOST = 1_000_000_000
"""Greatest number in a recipe: with a greater one, a command would not end."""
Count = Annotated[int, Field(ge=1, le=MOST)]
Steps = Annotated[Count, Mark.CAN_GROW]
Interval = Annotated[Count, Mark.NO_EFFECT]
"""Steps between two checkpoints."""
Positive = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=MOST)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
NotZero = Annotated[float, AfterValidator(lambda value: _not_zero(value))]


def _not_zero(value: float) -> float:
    if value == 0:
        raise ValueError("must not be 0")
    return value


def ascending(value: list[float]) -> list[float]:
    """Validate a pair [low, high]."""
    if value[0] >= value[1]:
        raise ValueError("must be [low, high] with low below high")
    return value


def _http_address(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    try:
        place = urlsplit(value)
        has_host = bool(place.hostname) and (place.port or 1) > 0  # a wrong port raises
    except ValueError as error:
        raise ValueError(f"must be an address such as http://localhost:8000/v1: {error}") from error
    if not has_host:
        raise ValueError("must be an address such as http://localhost:8000/v1")
    return value


HttpAddress = Annotated[Text, AfterValidator(_http_address)]


def _finite_numbers(value: Any) -> Any:
    inner = value.values() if isinstance(value, Mapping) else value
    for each in inner if isinstance(inner, Iterable) and not isinstance(inner, str) else ():
        _finite_numbers(each)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must have finite numbers only (got {value})")
    return value


Settings = Annotated[dict[str, Any], AfterValidator(_finite_numbers)]
"""Settings that are passed on to a library or a server."""


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys, no conversion of types."""

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
            text = "; ".join(f"{key}: {rule}" for key, rule in faults)
            raise PydanticCustomError("contradiction", "{text}", {"text": text, "faults": faults})
        return self

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield key and rule of each conflict between fields, from plain data.

        The data may be invalid elsewhere, so that all errors of a recipe are reported together.
        """
        yield from ()


def marked_keys(model: type[BaseModel], mark: Mark, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of the fields that carry a mark, those of inner sections included."""
    for name, field in model.model_fields.items():
        if mark in field.metadata:
            yield prefix + name
        if inner := section_of(field.annotation):
            yield from marked_keys(inner, mark, f"{prefix}{name}.")


TRAINER_NAMES = {
    "learning_rate": "learning_rate",
    "max_steps": "steps",
    "save_steps": "save_every",
    "output_dir": "--run-folder",
    "seed": "seed",
    "report_to": "report_to",
}
"""Settings of TRL's configs that a recipe sets under another name, and that name."""
GRPO_NAMES = {
    **TRAINER_NAMES,
    "num_generations": "group_size",
    "beta": "kl",
    "temperature": "temperature",
    "max_completion_length": "max_completion_tokens",
}


def set_twice(data: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the settings under `trainer` that a field of the section already sets."""
    trainer = data.get("trainer")
    given: Mapping[str, Any] = trainer if isinstance(trainer, Mapping) else {}
    for name, field in names.items():
        if name in given:
            yield f"trainer.{name}", f"is already set by {field}; remove it here"


def changed_weights(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings under `trainer` with which TRL would sample from other weights.

    It merges the adapter into the base for vLLM, which destroys a base in 4 bits, and rounds it to
    16 bits for continuous batching.
    """
    trainer = data.get("trainer")
    given: Mapping[str, Any] = trainer if isinstance(trainer, Mapping) else {}
    for name in ("use_vllm", "use_transformers_continuous_batching", "use_transformers_paged"):
        if given.get(name):
            yield f"trainer.{name}", "makes TRL merge or round the adapter; remove it"


def fields_set_by_toolkit(request: Any) -> Iterator[tuple[str, str]]:
    """Yield the fields of a server's `request` that the toolkit sets itself."""
    given: Mapping[str, Any] = request if isinstance(request, Mapping) else {}
    for key in sorted({"model", "messages", "stream", "n"} & set(given)):
        yield "request", f"must not contain {key}, which the toolkit sets"
