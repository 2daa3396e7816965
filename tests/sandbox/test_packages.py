"""Packages that a recipe offers to the code in the sandbox."""

from pathlib import Path

import pytest

from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.sandbox.packages import find_packages, why_missing

DOUBLE = {
    "kind": "calls",
    "entry_point": "double",
    "functionality": [{"args": [[1, 2]], "expect": [2, 4]}],
}
NUMPY_CODE = """
import numpy

def double(items):
    return numpy.array(items) * 2

def total(items):
    return numpy.array(items).sum()
"""
NUMPY_TESTS = """
import numpy
from candidate import double, total

def test_arrays_cross_by_value():
    assert numpy.array_equal(double(numpy.array([1, 2])), numpy.array([2, 4]))
    assert double([1.5]).dtype == numpy.float64

def test_scalars_cross_as_numbers():
    assert total([1, 2]) == 3
"""


@pytest.fixture(scope="module")
def offering():
    with Sandbox("limits-only", workers=1, packages=["numpy", "PyYAML"]) as sandbox:
        yield sandbox


def test_an_offered_package_weakens_no_promise(offering):
    with Sandbox("limits-only", workers=1) as plain:
        assert offering.isolation.tier == plain.isolation.tier


def test_code_and_tests_import_an_offered_package(offering):
    assert offering.run_tests(NUMPY_CODE, "python", DOUBLE).status == "passed"
    tests = {"kind": "calls", "source": NUMPY_TESTS}
    result = offering.run_tests(NUMPY_CODE, "python", tests)
    assert (result.status, result.functional_passed) == ("passed", 2), result.output


def test_a_program_imports_an_offered_package(offering):
    code = "import numpy, yaml\nprint(yaml.safe_load(input())['n'] + numpy.ones(2).sum())"
    tests = {"kind": "stdio", "functionality": [{"stdin": "n: 3\n", "stdout": "5.0"}]}
    result = offering.run_tests(code, "python", tests)
    assert result.status == "passed", result.output


def test_an_offered_package_cannot_be_changed(offering):
    code = "import yaml\n\ndef double(items):\n    open(yaml.__file__, 'a').write('x = 1')\n"
    result = offering.run_tests(code, "python", DOUBLE)
    assert "Read-only file system" in result.output or "Permission denied" in result.output


def test_what_is_not_offered_is_missing_and_named(offering):
    code = "import pydantic\n\ndef double(items):\n    return [2 * item for item in items]\n"
    result = offering.run_tests(code, "python", DOUBLE)
    assert result.status == "failed"
    assert "sandbox.packages: [numpy, yaml, pydantic]" in result.output


def test_packages_of_a_confined_jail_without_namespaces():
    folder = Path(find_packages(["numpy"]).folder)
    if any(not parent.stat().st_mode & 0o001 for parent in folder.parents):
        pytest.skip("the packages cannot be read by every user")
    with Sandbox("limits-only", 1, packages=["numpy"], without=["namespaces"]) as sandbox:
        assert sandbox.run_tests(NUMPY_CODE, "python", DOUBLE).status == "passed"


def test_a_package_is_found_by_the_name_of_its_module_and_brings_what_it_requires():
    offer = find_packages(["yaml", "jinja2"])
    assert offer.modules == ("yaml", "jinja2")
    assert {"yaml", "jinja2", "markupsafe"} <= {Path(entry).name for entry in offer.entries}


def test_a_package_that_is_not_installed_is_an_error():
    with pytest.raises(SandboxError, match=r"no-such-package is not installed.*pip install"):
        Sandbox(packages=["no-such-package"])


def test_a_package_installed_as_a_link_to_its_source_is_an_error(tmp_path, monkeypatch):
    info = tmp_path / "linked_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: linked-package\nVersion: 1.0\n")
    (info / "RECORD").write_text("linked_package.pth,,\nlinked_package-1.0.dist-info/METADATA,,\n")
    (tmp_path / "linked_package.pth").write_text("/somewhere/src\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SandboxError, match="editable"):
        find_packages(["linked-package"])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("ModuleNotFoundError: No module named 'numpy'", "set sandbox.packages: [numpy]"),
        ("No module named 'numpy.linalg'", "set sandbox.packages: [numpy]"),
        ("No module named 'no_such_module'", "install the package that has it"),
        ("No module named 'asyncio.nothing'", ""),
        ("No module named 'candidate'", ""),
        ("AssertionError", ""),
    ],
)
def test_how_to_offer_a_package_is_named(output, expected):
    found = why_missing(output, ())
    assert expected in found and bool(found) == bool(expected)
