import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import soak


@pytest.mark.slow
def test_ten_thousand_runs_leave_nothing_behind() -> None:
    found = soak.soak(10_000)
    before, after = found["before"], found["after"]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert found["wrong"] == []
    assert found["left"] == []
    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["threads"] == before["threads"]
    assert after["memory_kb"] < before["memory_kb"] + 30_000
    assert isinstance(found["starters_kb"], int)
    assert found["starters_kb"] < 300_000
