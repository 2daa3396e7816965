"""From a recipe's text to plain data, and from pydantic's errors to sentences.

Strict YAML (no duplicate keys, `1e-5` is a number) and `-o a.b=value` overrides. Which keys a
recipe may have is not here: see `recipe`.
"""

import difflib
import re
import types
import typing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from seccoderx_lite.core.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Fault:
    """One error in a recipe: the dotted key, and the rule with the value received."""

    key: str
    rule: str

    def __str__(self) -> str:
        return f"{self.key}: {self.rule}" if self.key else self.rule


def invalid(title: str, faults: Sequence[Fault]) -> RecipeError:
    """Return the error that lists all faults, each once."""
    lines = dict.fromkeys(str(fault) for fault in faults)
    return RecipeError("\n  ".join([f"{title} is not a valid recipe:", *lines]))


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with numbers as in YAML 1.2 and duplicate keys as errors."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key_node.tag != "tag:yaml.org,2002:merge":
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} appears twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """The loader's counterpart: it quotes text that the loader would read as a number."""


for _resolver in (_Loader, _Dumper):  # PyYAML follows YAML 1.1: 1e-5 without a point is text
    _resolver.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


def to_yaml(data: Any) -> str:
    """Return plain data as YAML that `parse_yaml` reads back unchanged."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False)  # ASCII: \x85 breaks lines otherwise


_MOST_BYTES = 1 << 20
_MOST_NODES = 20_000
"""Most keys and values of a document, each counted as often as aliases repeat it."""


def parse_yaml(text: str, title: str) -> Any:
    """Return the data of one YAML document, None for an empty one.

    Raises:
        RecipeError: the text is not valid YAML, a mapping has a duplicate key, or aliases make it
            endless or huge.
    """
    title = _SHORT.repr(title).strip("'\"") if len(title) > 200 else title
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count_nodes(node, {})
        return _without_surrogates(loader.construct_document(node), title)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"{title}{place}: {error.problem or error.context}; {_FIX}") from error
    except RecursionError as error:
        raise RecipeError(f"{title} is nested too deeply; write it with fewer levels") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"{title} is not readable as YAML: {reason}; {_FIX}") from error
    finally:
        if loader:
            loader.dispose()


_FIX = "correct it (text with special characters needs quotes)"


def _count_nodes(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return how many nodes a node has with all that it refers to; `known` has those counted.

    Raises:
        ValueError: an alias is part of what it stands for, or the number is absurd.
    """
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise ValueError(f"the alias in line {node.start_mark.line + 1} contains itself")
        return count
    known[id(node)] = None
    count = 1
    if isinstance(node, yaml.CollectionNode):
        for entry in node.value:
            for child in entry if isinstance(entry, tuple) else (entry,):
                count += _count_nodes(child, known)
    if count > _MOST_NODES:
        raise ValueError(f"its aliases stand for more than {_MOST_NODES} values")
    known[id(node)] = count
    return count


def _without_surrogates(data: Any, title: str) -> Any:
    """Return the data of a document, whose texts can be written to a file."""
    try:
        to_yaml(data).encode()
        repr(data).encode()
    except UnicodeEncodeError as error:
        raise RecipeError(f"{title} has half a surrogate pair in a text; {_FIX}") from error
    except yaml.YAMLError:
        pass  # data that a recipe does not allow, which its check names
    return data


def read_document(path: Path) -> dict[str, Any]:
    """Return the mapping in a recipe file.

    Raises:
        RecipeError: the file is missing, empty, not text, not YAML, or not a mapping.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe; check the path") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not a text file in UTF-8; save it as one") from error
    except OSError as error:
        raise RecipeError(
            f"{path} cannot be read: {error.strerror}; give the path of a recipe"
        ) from error
    if len(data) > _MOST_BYTES:
        raise RecipeError(f"{path} is larger than 1 MiB; give the path of a recipe")
    document = parse_yaml(text, str(path))
    if document is None:
        raise RecipeError(f"{path} is empty; a recipe needs at least `name` and `model.base`")
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise RecipeError(f"{path} must contain `key: value` lines, but it contains a {kind}")
    return document


def parse_override(override: str) -> tuple[list[str], Any]:
    """Return the parts of the key and the value of "a.b=value", parsed as YAML.

    Raises:
        RecipeError: there is no `=`, a part of the key is empty, or the value is not valid YAML.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"override {override!r}: must have the form key.sub=value")
    return parts, parse_yaml(text, f"override {override!r}")


def with_value(document: Any, parts: Sequence[str], value: Any, done: str = "") -> Any:
    """Return the document with one key set; missing sections are created.

    Nothing is changed in place, because with YAML aliases two sections can be the same object.

    Raises:
        RecipeError: a part of the key is a value, not a section.
    """
    if not parts:
        return value
    if document is not None and not isinstance(document, dict):
        raise RecipeError(
            f"override {done}.{'.'.join(parts)}: {done} is a value, not a section; "
            f"set {done} itself"
        )
    head, *rest = parts
    section = document or {}
    inner = with_value(section.get(head), rest, value, f"{done}.{head}".lstrip("."))
    return {**section, head: inner}


def value_at(document: Any, key: str, default: Any = None) -> Any:
    """Return the value at a dotted key of plain data, or the default."""
    for part in key.split("."):
        if not isinstance(document, Mapping) or part not in document:
            return default
        document = document[part]
    return document


def faults_of(error: ValidationError, model: type[BaseModel]) -> Iterator[Fault]:
    """Yield pydantic's errors in plain words, and each contradiction between fields."""
    for detail in error.errors(include_url=False):
        path, section = _locate(model, detail["loc"])
        prefix = ".".join(path)
        if detail["type"] == "contradiction":
            for key, rule in detail["ctx"]["faults"]:
                yield Fault(f"{prefix}.{key}".strip("."), rule)
        elif detail["type"] == "extra_forbidden":
            yield Fault(prefix, _unknown_key(path, section, model))
        elif detail["type"] == "missing":
            yield Fault(prefix, "is required")
        else:
            rule = _rule(detail["type"], detail.get("ctx", {}), detail["msg"])
            yield Fault(prefix, f"{rule} (got {_SHORT.repr(detail['input'])})")


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxdict = _SHORT.maxlist = 3

_RULES = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be one of {expected}",
    "list_type": "must be a list",
    "dict_type": "must be a section of `key: value` lines",
    "model_type": "must be a section of `key: value` lines",
    "invalid_key": "keys must be text",
}


def _rule(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind == "value_error":
        return str(context["error"])
    if kind == "too_short" and context.get("min_length") == 1:
        return "must not be empty"
    return _RULES[kind].format(**context) if kind in _RULES else message


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as `JudgeRecipe | None`; None if it has none."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = (section_of(option) for option in typing.get_args(annotation))
        return next((option for option in options if option), None)
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def item_section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model of the entries in an annotation such as `list[TermRecipe]`, None for others.

    >>> item_section_of(list[int]) is None
    True
    """
    is_list = typing.get_origin(annotation) is list
    return section_of(typing.get_args(annotation)[0]) if is_list else None


def _locate(
    model: type[BaseModel], location: Sequence[int | str]
) -> tuple[list[str], type[BaseModel]]:
    """Return a pydantic location as a dotted key, without pydantic's own parts, and its section."""
    path: list[str] = []
    section = model
    items: type[BaseModel] | None = None
    for part in location:
        path.append(str(part))
        field = section.model_fields.get(str(part))
        if items and isinstance(part, int):
            section, items = items, None
            continue
        inner = section_of(field.annotation) if field else None
        items = item_section_of(field.annotation) if field else None
        if items:
            continue
        if inner is None:
            break  # a value; the rest is list indices and names of union members
        section = inner
    return path, section


def _dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if section := section_of(field.annotation):
            yield from _dotted_keys(section, f"{prefix}{name}.")


def _unknown_key(path: Sequence[str], section: type[BaseModel], model: type[BaseModel]) -> str:
    key = path[-1]
    own = difflib.get_close_matches(key, section.model_fields, n=1, cutoff=0.6)
    elsewhere = [dotted for dotted in _dotted_keys(model) if dotted.split(".")[-1] == key]
    if own:
        nearest = ".".join([*path[:-1], own[0]])
    elif elsewhere:
        nearest = max(elsewhere, key=lambda dotted: dotted.startswith(f"{path[0]}."))
    else:
        return f"unknown key; use one of {', '.join(section.model_fields)}"
    return f"unknown key; did you mean {nearest}?"
