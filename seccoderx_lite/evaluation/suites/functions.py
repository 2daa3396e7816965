"""HumanEval, HumanEval+ and MBPP+: is function kept?

A row is one Python function with tests. In the layout of the hub the tests are text; the JSON lines
of EvalPlus have inputs instead, and the canonical solution gives the expected outputs. Tests run in
the tester's process, which has the helpers of the prompt as well; the answer replaces the function.
"""

import ast
import gzip
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from seccoderx_lite.core.code_blocks import code_of_answer
from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.data.rows import Row, read_rows
from seccoderx_lite.evaluation.suites.grading import Grade, Grader, SuiteTask
from seccoderx_lite.sandbox.planning import plan_tests

FUNCTION_SUITES = ("humaneval", "humanevalplus", "mbppplus")
COMPLETE = "-complete"
"""Ending of a suite's name that gives the model the bare beginning of the function."""

_CHAT = """\
Complete this Python function.

```python
{prompt}
```

Answer with one Python code block that holds the complete function and every import it needs.
"""
_CHAT_MBPP = """\
{prompt}

Your code must pass these tests:

```python
{tests}
```

Answer with one Python code block.
"""
_END_OF_FUNCTION = re.compile(r"^(?=[^\s#)\]}])", re.MULTILINE)

_NUMPY = """\
import copy
import sys
import types


def allclose(one, other, rtol=1e-05, atol=1e-08):
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        pairs = zip(one, other)
        return len(one) == len(other) and all(allclose(a, b, rtol, atol) for a, b in pairs)
    return one == other or abs(one - other) <= atol + rtol * abs(other)


try:
    import numpy
except ImportError:
    numpy = types.ModuleType("numpy")
    numpy.allclose = allclose
    numpy.ndarray = numpy.float32 = numpy.float64 = type("Array", (), {})
    sys.modules["numpy"] = numpy
"""
"""The tests use numpy only to compare numbers; this stands in for it where it is not offered."""

_CHECKED = """\
import candidate

namespace = {{"__name__": "tests_of_function"}}
exec({helpers!r}, namespace)
function = candidate.{name}
namespace[{name!r}] = function


def test_function():
    exec({test!r}, namespace)
    if "check" in namespace:
        namespace["check"](function)
"""
_COMPARED = """\
import candidate

namespace = {{"__name__": "tests_of_function"}}
exec({solution!r}, namespace)
inputs = {inputs!r}
expected = [namespace[{name!r}](*copy.deepcopy(one)) for one in inputs]
function = candidate.{name}


def is_float(value):
    is_list = isinstance(value, (list, tuple)) and len(value) > 0
    return all(map(is_float, value)) if is_list else isinstance(value, float)


def same(value, wanted, atol):
    atol = 1e-6 if atol == 0 and is_float(wanted) else atol
    return value == wanted or (atol != 0 and allclose(value, wanted, 1e-07, atol))


def test_function():
    for number, (one, wanted) in enumerate(zip(inputs, expected)):
        value = function(*copy.deepcopy(one))
        assert same(value, wanted, {atol!r}), f"input {{number}}: {{value!r:.200}}"
"""


def read_functions(suite: str, source: str) -> list[SuiteTask]:
    """Return the tasks of a suite from its JSON lines (also .gz), or from a hub id or its file.

    Raises:
        DataError: the source cannot be read, or a row lacks a column.
    """
    return [_task(row, suite) for row in _rows(source)]


def _rows(source: str) -> Iterator[Row]:
    path = Path(source)
    if path.suffix != ".gz":
        yield from read_rows(source, None, "tasks")
        return
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield Row(f"{source}, line {number}", number, json.loads(line))
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{source} cannot be read as zipped JSON lines: {error}") from error


def _task(row: Row, suite: str) -> SuiteTask:
    data = row.data
    solution = data.get("canonical_solution", data.get("code"))
    prompt = data.get("prompt")
    has_tests = isinstance(data.get("test"), str) or "base_input" in data
    if not isinstance(prompt, str) or not isinstance(solution, str) or not has_tests:
        raise DataError(
            f"{row.place}: {suite} needs prompt, canonical_solution (or code), and test (or "
            f"base_input); the row has {', '.join(data)}"
        )
    is_function = "canonical_solution" in data and not prompt.lstrip().startswith('"""')
    name = data.get("entry_point") or _called(data)
    source = _NUMPY + _tests(data, str(name), prompt if is_function else "", solution)
    tests = {"kind": "calls", "source": source, "before": _before(prompt, name, is_function)}
    try:
        plan_tests(tests, "python")
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from error
    is_complete = suite.endswith(COMPLETE)
    task = Task(
        id=f"{suite.removesuffix(COMPLETE)}-{data.get('task_id', row.number)}",
        prompt=prompt if is_complete else _chat(data, prompt, is_function),
        language="python",
        reference=prompt + solution if is_function else solution,
        tests=tests,
        extra={"beginning": prompt},
    )
    return SuiteTask(task.id, task.prompt, "python", (), task)


def _chat(data: Mapping[str, Json], prompt: str, is_function: bool) -> str:
    if is_function:
        return _CHAT.format(prompt=prompt.strip("\n"))
    tests = data.get("test_list")
    if not isinstance(tests, Sequence) or isinstance(tests, str):
        return f"{prompt.strip()}\n\nAnswer with one Python code block.\n"
    return _CHAT_MBPP.format(prompt=prompt.strip(), tests="\n".join(map(str, tests)))


def _before(prompt: str, name: Json, is_function: bool) -> str:
    """The imports and helpers of the prompt, without the function that is asked for."""
    return f"{prompt}\n    pass\n\n\ndel {name}\n" if is_function else ""


def _tests(data: Mapping[str, Json], name: str, prompt: str, solution: str) -> str:
    test = data.get("test")
    if isinstance(test, str) and test.strip():
        imports = "\n".join(data.get("test_imports") or [])
        helpers = f"{prompt}\n    pass\n" if prompt else imports
        return _CHECKED.format(helpers=helpers, name=name, test=test)
    inputs = [*data["base_input"], *(data.get("plus_input") or [])]
    return _COMPARED.format(
        solution=prompt + solution, inputs=inputs, name=name, atol=data.get("atol") or 0
    )


def _called(data: Mapping[str, Json]) -> str:
    """The function of the solution that the first test calls."""
    tests = "\n".join(data.get("test_list") or [])
    try:
        defined = {n.name for n in ast.parse(data["code"]).body if isinstance(n, ast.FunctionDef)}
        calls = [n.func for n in ast.walk(ast.parse(tests)) if isinstance(n, ast.Call)]
    except (SyntaxError, ValueError) as error:
        raise DataError(f"task {data.get('task_id')}: code and test_list: {error}") from error
    names = [call.id for call in calls if isinstance(call, ast.Name) and call.id in defined]
    if not names:
        raise DataError(f"task {data.get('task_id')}: its tests call no function of its code")
    return names[0]


class CompletionGrader:
    """Grades texts that continue the beginning of a function, or that are whole answers."""

    uses_model = False

    def __init__(self, grader: Grader) -> None:
        self._grader = grader

    def grade(self, items: Sequence[tuple[SuiteTask, str | None]]) -> list[Grade]:
        """Return one grade per completion, in order; None is a failed generation."""
        return self._grader.grade(
            [(task, None if text is None else whole_program(task, text)) for task, text in items]
        )


def whole_program(task: SuiteTask, completion: str) -> str:
    """Return an answer with one block: the continued function, or the completion if it has one.

    A continuation ends where the next text at the left margin begins.
    """
    assert isinstance(task.source, Task)
    if code_of_answer(completion, "python").form in ("block", "unclosed"):
        return completion
    beginning = task.source.extra["beginning"]
    ends = itertools.chain(_END_OF_FUNCTION.finditer(completion), [None])
    first = next(end for end in ends if end is None or end.start() > 0)
    body = completion[: first.start()] if first else completion
    return f"```python\n{beginning}{body}\n```\n"
