"""Signatures and fields of dataclasses: each side describes its own, and reads the other's."""

import dataclasses
import inspect
from typing import Any

from . import values

SIGNATURE, FIELDS = "__signature__", "__dataclass_fields__"
_OF_PARAMETER = ("default", "annotation")
_OF_FIELD = ("default", "default_factory", "init", "repr", "compare", "kw_only")


def describe_part(value: Any, name: str) -> Any:
    """What the other process makes a signature, fields of a dataclass or a list of names from."""
    if name == "__dir__":
        return [each for each in dir(value) if values.is_name(each)]
    if name == SIGNATURE:
        return _described_signature(inspect.signature(value))
    return [
        [field.name, field.type, _given(field, dataclasses.MISSING, _OF_FIELD)]
        for field in dataclasses.fields(value)
    ]


def _described_signature(found: inspect.Signature) -> list[Any]:
    parameters = [
        [each.name, int(each.kind), _given(each, each.empty, _OF_PARAMETER)]
        for each in found.parameters.values()
    ]
    returns = found.return_annotation
    return [parameters, [] if returns is found.empty else [returns]]


def _given(part: Any, nothing: object, names: tuple[str, ...]) -> list[Any]:
    """The attributes of a parameter or field that have a value."""
    pairs = ((name, getattr(part, name)) for name in names)
    return [[name, value] for name, value in pairs if value is not nothing]


def read_signature(described: Any) -> inspect.Signature:
    """A signature from its description: parts of parameters, and what it returns."""
    parameters, returns = described
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect._ParameterKind(kind),
                **{key: value for key, value in given if key in _OF_PARAMETER},
            )
            for name, kind, given in parameters
        ],
        return_annotation=returns[0] if returns else inspect.Signature.empty,
    )


def read_fields(described: Any) -> dict[str, Any]:
    """The fields of a dataclass from their description."""
    found = {}
    for name, kind, given in described:
        if not values.is_name(name):
            raise ValueError("not the name of a field")
        options = {key: value for key, value in given if key in _OF_FIELD}
        field: Any = dataclasses.field(**options)
        field.name, field.type = name, kind
        field._field_type = dataclasses._FIELD  # type: ignore[attr-defined]
        found[name] = field
    return found
