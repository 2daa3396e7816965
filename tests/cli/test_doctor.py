"""The table of languages by tier."""

from seccoderx_lite.cli import doctor
from seccoderx_lite.sandbox import Sandbox


def test_the_table_has_a_line_for_each_tier_and_tells_what_fails(monkeypatch):
    states = {"strong": "works", "confined": "no node", "limits-only": "works"}

    def works(sandbox: Sandbox) -> dict[str, str]:
        return {"python": "works", "javascript": states[sandbox.isolation.tier]}

    monkeypatch.setattr(Sandbox, "check_languages", works)
    head, *lines = (line.split() for line in doctor.language_table())
    assert head == ["tier", "python", "javascript"]
    assert lines[-1][0] == "limits-only"
    for tier, *found in lines:
        assert found == ["works", "works" if states[tier] == "works" else "fails"]
