"""The tiny world: code templates, and their rendering in many surface forms.

A template is one small programming task in YAML (`templates/`): prompts, secure and insecure
programs, and tests that attack them. A surface form is one choice of prompt, function name,
parameter names and nouns. The last third of every long list of choices is reserved for held-out
forms, so that training never sees those words in that template.

This file only renders; `tests/builtin_maker/make_tiny.py` decides what goes into which data set.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template as Text
from typing import Literal

import yaml

Form = Literal["train", "held_out", "any"]

LONG_LIST = 6
"""Lists of at least this many choices are divided between training and held-out forms."""


@dataclass(frozen=True, slots=True)
class Program:
    """One solution of a template's task, and what a reviewer would say about its security."""

    code: str
    why: str
    is_secure: bool


@dataclass(frozen=True, slots=True)
class Template:
    """One small programming task; `cwe` is None for a task without a possible weakness."""

    name: str
    cwe: str | None
    split: Literal["train", "transfer"]
    slots: Mapping[str, tuple[str, ...]]
    prompts: tuple[str, ...]
    programs: tuple[Program, ...]
    tests: str

    @property
    def secure(self) -> tuple[Program, ...]:
        """The programs that pass every test; the first is the reference."""
        return tuple(program for program in self.programs if program.is_secure)

    @property
    def insecure(self) -> tuple[Program, ...]:
        """The programs that work but fail the security tests."""
        return tuple(program for program in self.programs if not program.is_secure)


@dataclass(frozen=True, slots=True)
class Surface:
    """One surface form of a template."""

    prompt: str
    values: Mapping[str, str]

    def fill(self, text: str) -> str:
        """Replace the `$slots` of a text by this form's names."""
        return Text(text).substitute(self.values)


def _choices(values: tuple[str, ...], form: Form) -> tuple[str, ...]:
    if form == "any" or len(values) < LONG_LIST:
        return values
    cut = len(values) - len(values) // 3
    return values[:cut] if form == "train" else values[cut:]


def sample_surface(template: Template, form: Form, rng: random.Random) -> Surface:
    values = {slot: rng.choice(_choices(all_, form)) for slot, all_ in template.slots.items()}
    prompt = rng.choice(_choices(template.prompts, form))
    return Surface(Text(prompt).substitute(values), values)


@cache
def load_templates() -> tuple[Template, ...]:
    """Return the templates of the package, in file order."""
    folder = files("seccoderx_lite.data.builtin") / "templates"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return tuple(
        template for name in names for template in _read(folder.joinpath(name).read_text("utf-8"))
    )


def _read(text: str) -> Iterator[Template]:
    family = yaml.safe_load(text)
    for entry in family["templates"]:
        programs = [
            Program(item["code"], item["why"], kind == "secure")
            for kind in ("secure", "insecure")
            for item in entry.get(kind, [])
        ]
        yield Template(
            name=entry["name"],
            cwe=family["cwe"],
            split=entry["split"],
            slots={slot: tuple(map(str, values)) for slot, values in entry["slots"].items()},
            prompts=tuple(entry["prompts"]),
            programs=tuple(programs),
            tests=entry["tests"],
        )
