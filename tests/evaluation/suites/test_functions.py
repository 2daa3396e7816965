"""HumanEval, HumanEval+ and MBPP+ in their published layouts, graded in the sandbox."""

import gzip
import json

import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.evaluation.metrics import SampleScore
from seccoderx_lite.evaluation.suites.checking import check_tests
from seccoderx_lite.evaluation.suites.functions import whole_program
from seccoderx_lite.evaluation.suites.grading import TestsGrader
from seccoderx_lite.evaluation.suites.loading import load_suite, make_graders
from seccoderx_lite.sandbox import Sandbox

PROMPT = '''from typing import List


def total(numbers: List[int]):
    """The sum, for the helper below."""
    return sum(numbers)


def mean(numbers: List[int]):
    """Return the mean of some numbers."""
'''
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": PROMPT,
    "entry_point": "mean",
    "canonical_solution": "    return total(numbers) / len(numbers)\n",
    "test": "METADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == 1.5\n"
    "    assert candidate([total([1, 1])]) == 2\n",
}
HUMANEVALPLUS = {
    **{key: HUMANEVAL[key] for key in ("prompt", "entry_point", "canonical_solution")},
    "task_id": "HumanEval/0",
    "base_input": [[[1, 2]]],
    "plus_input": [[[1, 2, 4]], [[0.1, 0.2]]],
    "atol": 0,
}
MBPPPLUS_HUB = {
    "task_id": 7,
    "code": "def halves(pairs):\n    return [one / 2 for one in pairs]",
    "prompt": "Write a function that halves numbers.",
    "source_file": "x",
    "test_imports": ["import math"],
    "test_list": ["assert halves([1]) == [0.5]", "assert math.isclose(halves([2])[0], 1)"],
    "test": "import numpy as np\n\ndef assertion(out, exp):\n"
    "    assert out == exp or np.allclose(out, exp, rtol=1e-07, atol=1e-6)\n\n"
    "inputs = [[[1]], [[3]]]\nresults = [[0.5], [1.5000000001]]\n"
    "for inp, exp in zip(inputs, results):\n    assertion(halves(*inp), exp)\n",
}
MBPPPLUS = {
    "task_id": "Mbpp/7",
    "prompt": '"""\nHalve numbers.\nassert halves([1]) == [0.5]\n"""\n',
    "entry_point": "halves",
    "canonical_solution": MBPPPLUS_HUB["code"],
    "base_input": [[[1]]],
    "plus_input": [[[3, 5]]],
    "atol": 0,
}
LAYOUTS = [
    pytest.param("humaneval", HUMANEVAL, id="humaneval"),
    pytest.param("humanevalplus", {**HUMANEVAL}, id="humanevalplus of the hub"),
    pytest.param("humanevalplus", HUMANEVALPLUS, id="humanevalplus"),
    pytest.param("mbppplus", MBPPPLUS_HUB, id="mbppplus of the hub"),
    pytest.param("mbppplus", MBPPPLUS, id="mbppplus"),
]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1) as sandbox:
        yield sandbox


def load(tmp_path, suite, row):
    file = tmp_path / "rows.jsonl.gz"
    with gzip.open(file, "wt") as lines:
        lines.write(json.dumps(row) + "\n")
    return load_suite(f"{suite}:{file}")[0]


@pytest.mark.parametrize(("suite", "row"), LAYOUTS)
def test_the_canonical_solution_passes_and_another_fails(tmp_path, sandbox, suite, row):
    loaded = load(tmp_path, suite, row)
    (check,) = check_tests(sandbox, loaded.tasks)
    assert (check.is_right, check.note) == (True, "")
    (task,) = loaded.tasks
    name = row.get("entry_point", "halves")
    answers = [f"```python\ndef {name}(x):\n    return 0\n```", "```python\nx = 1\n```", "Sorry."]
    grades = TestsGrader(sandbox).grade([(task, answer) for answer in answers])
    assert [grade.score for grade in grades] == [SampleScore(0.0, None)] * 3


def test_a_solution_that_needs_tuples_fails_with_json_lines_and_passes_in_the_layout_of_the_hub(
    tmp_path, sandbox
):
    code = "def seen(pair):\n    return pair in {(1, 2)}"
    lines = {**MBPPPLUS, "entry_point": "seen", "canonical_solution": code, "plus_input": []}
    lines["base_input"] = [[[1, 2]]]
    hub = {**MBPPPLUS_HUB, "code": code, "test_list": ["assert seen((1, 2))"]}
    hub["test"] = "inputs = [[(1, 2)]]\nfor one in inputs:\n    assert seen(*one)\n"
    checks = [
        next(check_tests(sandbox, load(tmp_path, "mbppplus", row).tasks)) for row in (lines, hub)
    ]
    assert [check.is_right for check in checks] == [False, True]
    assert "unhashable" in checks[0].note


def test_plain_json_lines_are_read_as_well(tmp_path):
    file = tmp_path / "HumanEval.jsonl"
    file.write_text(json.dumps(HUMANEVAL) + "\n")
    (suite,) = load_suite(f"humaneval:{file}")
    assert [(task.id, task.cwe) for task in suite.tasks] == [("humaneval-HumanEval/0", ())]


def test_the_prompts_are_a_request_or_the_bare_beginning(tmp_path):
    chat, complete = (load(tmp_path, s, HUMANEVAL) for s in ("humaneval", "humaneval-complete"))
    assert "one Python code block" in chat.tasks[0].prompt and "def mean" in chat.tasks[0].prompt
    assert complete.tasks[0].prompt == PROMPT
    mbpp = load(tmp_path, "mbppplus", MBPPPLUS_HUB).tasks[0].prompt
    assert "halves numbers" in mbpp and "assert halves([1]) == [0.5]" in mbpp


@pytest.mark.parametrize(
    ("completion", "functional"),
    [
        ("    return total(numbers) / len(numbers)\n\n\ndef other():\n    pass\n", 1.0),
        ("    return total(numbers) / len(numbers)\nprint(undefined)\n", 1.0),
        ("    mean = (\n    total(numbers) / len(numbers)\n)\n    return mean\n", 1.0),
        ("```python\ndef mean(n):\n    return sum(n) / len(n)\n```", 1.0),
        ("    return 0\n", 0.0),
        ("\n", 0.0),
    ],
)
def test_a_continuation_ends_at_the_next_text_at_the_margin(
    tmp_path, sandbox, completion, functional
):
    suite = load(tmp_path, "humaneval-complete", HUMANEVAL)
    grader = make_graders([suite], sandbox, None, 0)["completion"]
    (grade,) = grader.grade([(suite.tasks[0], completion)])
    assert grade.score == SampleScore(functional, None)


def test_a_failed_generation_stays_unscored(tmp_path, sandbox):
    suite = load(tmp_path, "humaneval-complete", HUMANEVAL)
    (grade,) = make_graders([suite], sandbox, None, 0)["completion"].grade([(suite.tasks[0], None)])
    assert grade.score is None


def test_the_beginning_is_kept_as_it_is(tmp_path):
    suite = load(tmp_path, "humaneval-complete", HUMANEVAL)
    assert whole_program(suite.tasks[0], "    return 1\n").startswith(
        f"```python\n{PROMPT}    return"
    )


@pytest.mark.parametrize("lost", ["prompt", "canonical_solution", "test"])
def test_a_row_without_its_columns_is_refused(tmp_path, lost):
    row = {key: value for key, value in HUMANEVAL.items() if key != lost}
    with pytest.raises(DataError, match="humaneval needs prompt"):
        load(tmp_path, "humaneval", row)


def test_a_broken_archive_is_refused(tmp_path):
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(b"not gzip")
    with pytest.raises(DataError, match="zipped JSON lines"):
        load_suite(f"humaneval:{file}")
