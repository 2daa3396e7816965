"""What tests ask the code to define or do."""

import pytest

from seccoderx_lite.core.required_code import ANYTHING, Asked, asked_by


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        (None, ANYTHING),
        ({"kind": "stdio"}, Asked(is_program=True)),
        ({"kind": "calls", "entry_point": "f"}, Asked(frozenset({"f"}))),
        (
            {"kind": "calls", "source": "from candidate import f, g as h\nimport os"},
            Asked(frozenset({"f", "g"})),
        ),
        (
            {"kind": "calls", "source": "import candidate as c\ndef test(): c.run()"},
            Asked(frozenset({"run"})),
        ),
        (
            {"kind": "pytest", "source": "from app import A\nimport candidate", "module": "app"},
            Asked(frozenset({"A"})),
        ),
        ({"kind": "calls", "source": "from candidate import *"}, ANYTHING),
        ({"kind": "calls", "source": "not python ("}, ANYTHING),
    ],
)
def test_tests_say_what_they_ask_for(tests, expected):
    assert asked_by(tests) == expected
