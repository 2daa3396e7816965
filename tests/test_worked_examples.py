"""The examples in docstrings hold."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import seccoderx_lite

PACKAGE = Path(seccoderx_lite.__file__).parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_the_worked_examples_hold(name):
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0 and result.failed == 0
