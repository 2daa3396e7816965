"""What a user sees while a command works."""

from seccoderx_lite.cli.progress_bar import ProgressBar

VALUES = {"reward": 4.5, "rollout_esr": 0.75, "tokens_per_s": 812.0, "alarms": []}


def test_a_terminal_shows_step_measures_and_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then treats any stream as a terminal
    monkeypatch.setenv("COLUMNS", "200")
    with ProgressBar() as progress:
        progress("policy", 3, 10, VALUES)
    text = capsys.readouterr().err
    for words in ("policy", "3/10", "reward 4.5", "ESR 0.75", "tokens/s 812", "-:--:--"):
        assert words in text


def test_without_a_terminal_each_stage_prints_its_start_and_its_end(capsys):
    with ProgressBar() as progress:
        for step in (1, 2):
            progress("policy", step, 2, VALUES)
        progress("policy", 1, 1, {"done": True})
    assert capsys.readouterr().err == "policy: started\npolicy: done\n"
