"""The prompts for the generator, and the form that each reply must have.

Every reply is JSON. Prose or a fence around it is accepted; a reply in another form is not: the
generator gets one more request that names the fault, and then the item is dropped.
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
from seccoderx_lite.core.code_blocks import extract_block
from seccoderx_lite.core.prompt_texts import neutralise
from seccoderx_lite.core.records import Json
from seccoderx_lite.core.thinking import without_thinking
from seccoderx_lite.data.synthesis.seeds import Seed

SHOWN_REPLY_CHARS = 2000
"""Characters of an unusable reply that are shown back to the generator."""

_OPENING = re.compile(r'\{\s*"|\[\s*[{"]')


class ReplyForm(BaseModel):
    """Base of all forms: unknown keys are ignored, types are not converted."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


Answer = TypeVar("Answer", bound=ReplyForm)


@dataclass(frozen=True, slots=True)
class Request(Generic[Answer]):
    """A prompt, and the form of its reply."""

    prompt: str
    form: type[Answer]


class UnusableReply(Exception):
    """A reply in another form; the message says why, also to the generator."""


def _scenario(value: Json) -> Json:
    """Return the text of a scenario, taken out of an object if necessary."""
    if isinstance(value, Mapping):
        return value.get("scenario", value.get("scenario_text"))
    return value


def _list_of(value: Json) -> Json:
    """Return a list, also for a single scenario."""
    return [value] if isinstance(value, str | Mapping) else value


NonEmpty = Annotated[str, Field(min_length=1, pattern=r"\S")]


class Scenarios(ReplyForm):
    """Reply to `scenarios_request`."""

    scenarios: Annotated[
        list[Annotated[NonEmpty, BeforeValidator(_scenario)]],
        Field(min_length=1),
        BeforeValidator(_list_of),
    ]


class TaskDraft(ReplyForm):
    """Reply to `task_request`."""

    design_plan: str = ""
    coding_task_prompt: NonEmpty
    implementation_language: NonEmpty


class Mark(ReplyForm):
    """Reply to `quality_request`."""

    mark: Annotated[int, Field(ge=1, le=5)]
    reason: str = ""


class CallTests(ReplyForm):
    """Reply to `tests_request` for Python."""

    tests: NonEmpty
    secure_solution: NonEmpty
    insecure_solution: NonEmpty

    def as_tests(self) -> dict[str, Json]:
        """Return the tests in the format of `Task.tests`."""
        return {"kind": "calls", "source": self.tests}


class Case(ReplyForm):
    """One input of a program with its exact output."""

    stdin: str
    stdout: str


class ProgramTests(ReplyForm):
    """Reply to `tests_request` for the other languages; empty lists if it is not a program."""

    functionality: list[Case] = []
    security: list[Case] = []
    secure_solution: str = ""
    insecure_solution: str = ""

    def as_tests(self) -> dict[str, Json]:
        """Return the tests in the format of `Task.tests`."""
        return {"kind": "stdio", **self.model_dump(include={"functionality", "security"})}


AnyTests = CallTests | ProgramTests


def scenarios_request(seed: Seed, count: int) -> Request[Scenarios]:
    """Ask for application settings; as in SecCoderX, the prompt does not name the weakness."""
    prompt = _render("scenarios", language=seed.language, code=neutralise(seed.code), count=count)
    return Request(prompt, Scenarios)


def task_request(
    seed: Seed, scenario: str, language: str, languages: str, max_lines: int
) -> Request[TaskDraft]:
    """Ask for one task in an application setting and a language."""
    prompt = _render(
        "task",
        seed_language=seed.language,
        code=neutralise(seed.code),
        cwe_description=cwe.get(seed.cwe).description,
        scenario=neutralise(scenario),
        language=language,
        languages=languages,
        max_lines=max_lines,
        **_weakness(seed.cwe),
    )
    return Request(prompt, TaskDraft)


def quality_request(task: Mapping[str, Json], max_lines: int) -> Request[Mark]:
    """Ask for a mark of a task's quality."""
    return Request(_render("quality", max_lines=max_lines, **_about(task)), Mark)


def tests_request(task: Mapping[str, Json]) -> Request[AnyTests]:
    """Ask for tests with a secure and an insecure solution."""
    if task["language"] == "python":
        return Request(_render("tests_calls", **_about(task)), CallTests)
    return Request(_render("tests_stdio", **_about(task)), ProgramTests)


def repair_request(request: Request[Answer], reply: str, fault: str) -> Request[Answer]:
    """Ask again, with the reply and its fault."""
    shown = neutralise(reply[:SHOWN_REPLY_CHARS]) or "(nothing)"
    prompt = _render("repair", prompt=request.prompt, reply=shown, fault=fault)
    return Request(prompt, request.form)


def read_reply(request: Request[Answer], text: str) -> Answer:
    """Parse a reply.

    Raises:
        UnusableReply: it has no JSON, or JSON in another form.
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
        raise UnusableReply("; ".join(faults)) from error


def json_in(text: str) -> Json:
    r"""Return the first JSON object or list of a reply: alone, in a fence, or in prose.

    >>> json_in('Sure!\n```json\n{"mark": 4}\n```')
    {'mark': 4}
    >>> json_in('I would give it {"mark": 4}.')
    {'mark': 4}
    >>> json_in('Not {"mark": 1}, I think.</think>{"mark": 4}')
    {'mark': 4}

    Raises:
        UnusableReply: there is none.
    """
    answer = without_thinking(text)
    block = extract_block(text, "json")
    for part in (answer, block.code if block else ""):
        try:
            return _container(json.loads(part))
        except (ValueError, RecursionError):
            continue
    # Only the first one: an object that was cut off contains smaller ones that are complete.
    opening = _OPENING.search(answer)
    try:
        start = opening.start() if opening else 0
        return _container(json.JSONDecoder().raw_decode(answer, start)[0])
    except (ValueError, RecursionError) as error:
        raise UnusableReply("it holds no complete JSON object") from error


def _container(data: Json) -> Json:
    if not isinstance(data, dict | list):
        raise ValueError("no container")
    return data


def _about(task: Mapping[str, Json]) -> dict[str, Any]:
    return {"prompt": task["prompt"], "language": task["language"], **_weakness(task["cwe"])}


def _weakness(id_: str) -> dict[str, Any]:
    entry = cwe.get(id_)
    return {"cwe": entry.id, "cwe_name": entry.short_name}


def _render(name: str, **values: Any) -> str:
    return _template(name).format(**values).strip()


@functools.cache
def _template(name: str) -> str:
    folder = files("seccoderx_lite.data.synthesis") / "prompts"
    return (folder / f"{name}.txt").read_text(encoding="utf-8")
