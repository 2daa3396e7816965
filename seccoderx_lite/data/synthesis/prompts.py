"""What the generator is asked, and the form its reply must have, side by side.

Every reply is JSON. What stands around it, prose or a fence, is tolerated; what it holds is not:
a reply that misses the form is asked for once more, with the fault told, and then given up.
"""

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from seccoderx_lite.core import cwe
from seccoderx_lite.core.code_blocks import extract_block, without_thinking
from seccoderx_lite.core.prompt_texts import neutralise
from seccoderx_lite.core.records import Json

MOST_OF_A_BAD_REPLY = 2000
"""Characters of an unusable reply that are shown back to the generator."""

_OPENING = re.compile(r'\{\s*"|\[\s*[{"]')


class Form(BaseModel):
    """What all replies share: unknown keys are passed over, kinds of values are not converted."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


Answer = TypeVar("Answer", bound=Form)


@dataclass(frozen=True, slots=True)
class Request(Generic[Answer]):
    """One question to the generator."""

    prompt: str
    form: type[Answer]


class Unusable(Exception):
    """A reply that has not the form asked for; the message says why, to the generator."""


def _scenario(value: Json) -> Json:
    """The text of a scenario, also where it stands in an object."""
    if isinstance(value, Mapping):
        return value.get("scenario", value.get("scenario_text"))
    return value


def _list_of(value: Json) -> Json:
    """A list, also where a single scenario stands alone."""
    return [value] if isinstance(value, str | Mapping) else value


Filled = Annotated[str, Field(min_length=1, pattern=r"\S")]


class Scenarios(Form):
    """Reply to `scenarios_request`."""

    scenarios: Annotated[
        list[Annotated[Filled, BeforeValidator(_scenario)]],
        Field(min_length=1),
        BeforeValidator(_list_of),
    ]


class TaskDraft(Form):
    """Reply to `task_request`."""

    design_plan: str = ""
    coding_task_prompt: Filled
    implementation_language: Filled


class Mark(Form):
    """Reply to `quality_request`."""

    mark: Annotated[int, Field(ge=1, le=5)]
    reason: str = ""


class CallTests(Form):
    """Reply to `tests_request` for Python."""

    tests: Filled
    secure_solution: Filled
    insecure_solution: Filled

    def as_tests(self) -> dict[str, Json]:
        """Return the tests as a task holds them."""
        return {"kind": "calls", "source": self.tests}


class Case(Form):
    """One input of a program with its exact output."""

    stdin: str
    stdout: str


class ProgramTests(Form):
    """Reply to `tests_request` for the other languages; empty lists where it is no program."""

    functionality: list[Case] = []
    security: list[Case] = []
    secure_solution: str = ""
    insecure_solution: str = ""

    def as_tests(self) -> dict[str, Json]:
        """Return the tests as a task holds them."""
        return {"kind": "stdio", **self.model_dump(include={"functionality", "security"})}


def scenarios_request(seed: Mapping[str, Json], count: int) -> Request[Scenarios]:
    """Ask for application settings; as in the original, the weakness is not told."""
    prompt = _render(
        "scenarios", language=seed["language"], code=neutralise(seed["code"]), count=count
    )
    return Request(prompt, Scenarios)


def task_request(
    seed: Mapping[str, Json], scenario: str, language: str, languages: str, max_lines: int
) -> Request[TaskDraft]:
    """Ask for one task in a setting and a language."""
    prompt = _render(
        "task",
        seed_language=seed["language"],
        code=neutralise(seed["code"]),
        cwe_description=cwe.get(seed["cwe"]).description,
        scenario=neutralise(scenario),
        language=language,
        languages=languages,
        max_lines=max_lines,
        **_weakness(seed["cwe"]),
    )
    return Request(prompt, TaskDraft)


def quality_request(task: Mapping[str, Json], max_lines: int) -> Request[Mark]:
    """Ask for a mark."""
    prompt = _render(
        "quality", prompt=task["prompt"], language=task["language"], max_lines=max_lines,
        **_weakness(task["cwe"]),
    )  # fmt: skip
    return Request(prompt, Mark)


def tests_request(task: Mapping[str, Json]) -> Request[CallTests] | Request[ProgramTests]:
    """Ask for tests with a secure and an insecure solution."""
    values = {"prompt": task["prompt"], "language": task["language"], **_weakness(task["cwe"])}
    if task["language"] == "python":
        return Request(_render("tests_calls", **values), CallTests)
    return Request(_render("tests_stdio", **values), ProgramTests)


def repair_request(request: Request[Answer], reply: str, fault: str) -> Request[Answer]:
    """Ask once more, telling what was wrong."""
    shown = neutralise(reply[:MOST_OF_A_BAD_REPLY]) or "(nothing)"
    prompt = _render("repair", prompt=request.prompt, reply=shown, fault=fault)
    return Request(prompt, request.form)


def read_reply(request: Request[Answer], text: str) -> Answer:
    """Return a reply in its form.

    Raises:
        Unusable: there is no JSON, or it has another form.
    """
    data = json_in(text)
    if request.form is Scenarios and isinstance(data, list):
        data = {"scenarios": data}
    elif request.form is Scenarios and isinstance(data, dict) and "scenarios" not in data:
        data = {"scenarios": [data]}
    try:
        return request.form.model_validate(data)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, detail['loc'])) or 'the reply'}: {detail['msg']}"
            for detail in error.errors(include_url=False)[:5]
        ]
        raise Unusable("; ".join(faults)) from error


def json_in(text: str) -> Json:
    r"""Return the first JSON object or list in a reply: alone, in a fence, or in prose.

    >>> json_in('Sure!\n```json\n{"mark": 4}\n```')
    {'mark': 4}
    >>> json_in('I would give it {"mark": 4}.')
    {'mark': 4}
    >>> json_in('Not {"mark": 1}, I think.</think>{"mark": 4}')
    {'mark': 4}

    Raises:
        Unusable: there is none.
    """
    answer = without_thinking(text)
    tail = answer.rpartition("</think>")[2]  # of a block that the chat template opened
    block = extract_block(text)
    for part in (answer, tail, block.code if block else ""):
        try:
            return _container(json.loads(part))
        except (ValueError, RecursionError):
            continue
    # Only where the first one opens: within one that was cut off stand others that are whole.
    place = tail if _OPENING.search(tail) else answer
    opening = _OPENING.search(place)
    try:
        start = opening.start() if opening else 0
        return _container(json.JSONDecoder().raw_decode(place, start)[0])
    except (ValueError, RecursionError) as error:
        raise Unusable("it holds no complete JSON object") from error


def _container(data: Json) -> Json:
    if not isinstance(data, dict | list):
        raise ValueError("no container")
    return data


def _weakness(id_: str) -> dict[str, Any]:
    entry = cwe.get(id_)
    return {"cwe": entry.id, "cwe_name": entry.short_name}


def _render(name: str, **values: Any) -> str:
    return _template(name).format(**values).strip()


@functools.cache
def _template(name: str) -> str:
    folder = files("seccoderx_lite.data.synthesis") / "prompts"
    return (folder / f"{name}.txt").read_text(encoding="utf-8")
