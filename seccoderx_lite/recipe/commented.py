"""A recipe as YAML in which every field is explained and defaults are commented out."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seccoderx_lite.recipe.reading import section_of, to_yaml
from seccoderx_lite.recipe.section import Section

_WIDTH = 96


def commented_recipe(recipe: Section) -> str:
    """Return YAML that loads to an equal recipe, with the documentation of its fields.

    A field with its default value is written as `#key: value`; without the `#` it is still equal.
    """
    return "\n".join(_lines(type(recipe), recipe.model_dump(mode="json"), _WIDTH)) + "\n"


def _lines(
    model: type[BaseModel], values: Mapping[str, Any], width: int, *, all_active: bool = False
) -> Iterator[str]:
    for name, field in model.model_fields.items():
        text = " ".join((field.description or "").split())
        yield from textwrap.wrap(text, width, initial_indent="# ", subsequent_indent="# ")
        hides = _is_default(field, values[name]) and not all_active
        lines = _setting(name, field, values[name], width, all_active=hides or all_active)
        yield from (f"#{line}" for line in lines) if hides else lines
        if isinstance(values[name], Mapping) and section_of(field.annotation):
            yield ""


def _setting(
    name: str, field: FieldInfo, value: Any, width: int, *, all_active: bool
) -> Iterator[str]:
    section = section_of(field.annotation)
    if section and isinstance(value, Mapping):
        fields = section.model_fields.items()
        is_empty = all(_is_default(inner, value[key]) for key, inner in fields)
        yield f"{name}:"
        for line in _lines(section, value, width - 2, all_active=all_active or is_empty):
            yield f"  {line}".rstrip()
    else:
        yield from to_yaml({name: value}).splitlines()


def _is_default(field: FieldInfo, value: Any) -> bool:
    return not field.is_required() and bool(value == _default(field))


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return default.model_dump(mode="json") if isinstance(default, BaseModel) else default
