import pytest
from helpers.sandbox.soak import soak


@pytest.mark.slow
def test_ten_thousand_runs_leave_nothing_behind() -> None:
    found = soak(10_000)
    assert found.wrong == []
    assert found.left == []
    assert found.after.descriptors <= found.before.descriptors + 2
    assert found.after.threads == found.before.threads
    assert found.after.memory_kb < found.before.memory_kb + 30_000
    assert found.starters_kb < 300_000
