"""What a user sees while a command works: on a terminal, in a log file, in a notebook."""

import logging
import re

import pytest

from seccoderx_lite.cli.logs import set_up_logging
from seccoderx_lite.cli.progress_bar import ProgressBar
from seccoderx_lite.run.progress import default_progress, no_progress, note
from seccoderx_lite.run.stage_progress import StageProgress, clock, joined

VALUES = {
    "reward": 4.512, "reward/vulnerability": 0.8, "reward/length": 0.71, "reward/similarity": 0.62,
    "functional_share": 0.98, "rollout_esr": 0.75, "kl": 0.0123, "loss": 0.02, "alarms": [],
    "tokens_per_s": 1310.4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def logs():
    """The command line's logging, and what was set up before it afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("seccoderx_lite")
    before = root.handlers[:], root.level, ours.level
    set_up_logging()
    yield
    root.handlers[:], root.level, ours.level = before


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then treats any stream as a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.parametrize("total", [10, 300, 120_000])
def test_a_terminal_of_80_columns_shows_position_and_measures_in_two_lines(terminal, capsys, total):
    with ProgressBar() as progress:
        for step in (total - 3, total - 2):
            progress("policy", step, total, VALUES)
            progress._stage._reports[-1] = (step * 4000.0, step)
        progress._live.refresh()
        capsys.readouterr()
        progress._live.refresh()
        first, second = plain(capsys.readouterr().err).splitlines()[-2:]
    assert first.startswith("policy ") and f"{total - 2:,}/{total:,}" in first
    assert "left" in first and "1,310 tokens/s" in first
    assert second.strip() == (
        "reward 4.51  safe 0.80  length 0.71  similar 0.62  functional 0.98  ESR 0.75"
    )
    assert len(first.rstrip()) <= 80 and len(second.rstrip()) <= 80


def test_a_terminal_keeps_a_line_for_each_finished_stage(terminal, capsys):
    with ProgressBar() as progress:
        note(progress, "cold_start", "loading builtin:tiny")
        progress("cold_start", 1, 1, {"loss": 0.5})
        progress("cold_start", 1, 1, {"done": True})
        progress("align", 1, 1, {"done": True})
    text = plain(capsys.readouterr().err)
    assert "cold_start done in 0:00  loss 0.50" in text
    assert "align      was finished earlier" in text


def test_a_log_file_gets_lines_with_a_time_stamp_for_notes_and_each_tenth(capsys):
    with ProgressBar() as progress:
        note(progress, "policy", "loading builtin:tiny")
        for step in range(1, 101):
            progress("policy", step, 100, VALUES)
        progress("policy", 1, 1, {"done": True})
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d policy ", line) for line in lines)
    assert [line[31:].split(",")[0].split(":")[0] for line in lines[1:-1]] == [
        f"{step}/100" for step in range(10, 101, 10)
    ]
    assert "1,310 tokens/s, reward 4.51, safe 0.80" in lines[1]
    assert lines[0].endswith("loading builtin:tiny") and "done in" in lines[-1]


def test_a_slow_stage_gets_a_line_per_minute_in_a_log_file(capsys):
    with ProgressBar() as progress:
        for step in (1, 2, 3):
            progress("policy", step, 1000, VALUES)
            if step == 2:
                progress._line = progress._line[0] - 61, progress._line[1]
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("hide", ["quiet", "another process"])
def test_quiet_and_other_processes_of_a_run_show_nothing(monkeypatch, capsys, hide):
    if hide == "quiet":
        set_up_logging(quiet=True)
    else:
        monkeypatch.setenv("RANK", "1")
    with ProgressBar() as progress:
        progress("policy", 1, 2, VALUES)
        progress("policy", 1, 1, {"done": True})
    assert capsys.readouterr().err == ""


def test_a_library_with_its_own_handler_prints_a_warning_once(capsys):
    library = logging.getLogger("a_library")
    handler = logging.StreamHandler()
    library.addHandler(handler)
    try:
        logging.getLogger("a_library.http").warning("retrying in 1 s")
    finally:
        library.removeHandler(handler)
    logging.getLogger("another_library").warning("once as well")
    text = capsys.readouterr().err
    assert text.count("retrying in 1 s") == 1 and text.count("once as well") == 1


def test_time_left_follows_the_speed_of_the_reported_steps(monkeypatch):
    now = 0.0
    monkeypatch.setattr("seccoderx_lite.run.stage_progress.time.monotonic", lambda: now)
    stage = StageProgress("policy")
    now = 100.0  # loading
    stage.update(26, 38, {})  # resumed at 25: the steps before are not fast ones
    assert stage.left_s() is None
    for step in (27, 28):
        now += 6
        stage.update(step, 38, {})
    assert stage.left_s() == 60
    now += 15
    assert stage.left_s() == 45
    assert stage.position() == "28/38, 0:45 left"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (36_000, "10:00:00")])
def test_durations_read_like_a_clock(seconds, text):
    assert clock(seconds) == text


def test_measures_that_do_not_fit_are_left_out():
    assert joined(["reward 4.51", "safe 0.80"], 22) == "reward 4.51  safe 0.80"
    assert joined(["reward 4.51", "safe 0.80"], 21) == "reward 4.51"


def test_outside_a_notebook_nothing_is_shown_by_default():
    assert default_progress() is no_progress
