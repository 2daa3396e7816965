import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from seccoderx_lite.core.errors import RunFolderError
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run.folder import RunFolder, default_run_folder


def make_recipe(**changes) -> Recipe:
    data = {
        "name": "small",
        "model": {"base": "builtin:tiny"},
        "judge": {"adapter": "some/adapter"},
        "policy": {"tasks": "builtin:tiny/tasks"},
    }
    return Recipe.model_validate({**data, **changes})


PRELUDE = """
import sys, os, json
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run.folder import RunFolder
recipe = Recipe.model_validate(json.loads(sys.argv[2]))
folder = RunFolder.open(sys.argv[1], recipe)
print("open", flush=True)
"""


def start(path: Path, code: str) -> subprocess.Popen:
    """Start a process that opens the folder and runs the code; returns when it is open."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PRELUDE + textwrap.dedent(code),
            str(path),
            make_recipe().model_dump_json(),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "open\n"
    return process


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_opening_writes_the_resolved_recipe_and_the_environment(tmp_path):
    with RunFolder.open(tmp_path / "runs" / "small", make_recipe(), environment={"gpu": None}) as f:
        stored = yaml.safe_load((f.path / "recipe.yaml").read_text())
        assert stored["policy"]["grpo"]["group_size"] == 8
        assert f.read_json("environment.json") == {"gpu": None}


def test_paths_are_those_of_the_contract(tmp_path):
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        assert folder.judge_adapter == tmp_path / "small/judge/adapter"
        assert folder.policy_adapter == tmp_path / "small/policy/adapter"
        assert folder.checkpoints("judge/align") == tmp_path / "small/judge/align/checkpoints"
        assert folder.export == tmp_path / "small/export"
    assert default_run_folder(make_recipe()) == Path("runs/small")


def make_run(path: Path, **changes) -> None:
    """A run that has a result."""
    with RunFolder.open(path, make_recipe(**changes)) as folder:
        folder.append_jsonl("metrics.jsonl", {"stage": "policy", "step": 1})


def test_a_folder_of_another_recipe_is_refused_with_keys_and_ways_out(tmp_path):
    path = tmp_path / "small"
    make_run(path)
    before = (path / "recipe.yaml").read_text()
    with pytest.raises(RunFolderError) as caught:
        RunFolder.open(path, make_recipe(seed=3, model={"base": "other"}))
    message = str(caught.value)
    assert "seed: 0 there, 3 now" in message
    assert "model.base: 'builtin:tiny' there, 'other' now" in message
    assert "--fresh" in message and "--run-folder" in message and "name" in message
    assert (path / "recipe.yaml").read_text() == before


def test_a_run_without_a_result_does_not_claim_its_folder(tmp_path):
    path = tmp_path / "small"
    RunFolder.open(path, make_recipe(), environment={"gpu": "T4"}).close()
    (path / "policy" / "checkpoints").mkdir(parents=True)
    with RunFolder.open(path, make_recipe(seed=3), environment={"gpu": None}) as folder:
        assert folder.read_json("environment.json") == {"gpu": None}
    assert RunFolder.existing(path).recipe.seed == 3


def test_a_recipe_that_a_user_wrote_into_the_folder_is_not_overwritten_by_another(tmp_path):
    mine = "# my notes\nname: small\nmodel: {base: mine}\nevaluate: {suites: [x]}\n"
    (tmp_path / "recipe.yaml").write_text(mine)
    with pytest.raises(RunFolderError, match="belongs to another recipe"):
        RunFolder.open(tmp_path, make_recipe())
    assert (tmp_path / "recipe.yaml").read_text() == mine


def with_steps(steps: int, **changes) -> dict:
    return {"policy": {"tasks": "builtin:tiny/tasks", "grpo": {"steps": steps, **changes}}}


def test_more_steps_extend_a_run(tmp_path):
    make_run(tmp_path / "small", **with_steps(10))
    RunFolder.open(tmp_path / "small", make_recipe(**with_steps(20))).close()
    assert RunFolder.existing(tmp_path / "small").recipe.policy.grpo.steps == 20


@pytest.mark.parametrize(
    ("changes", "named"),
    [(with_steps(9), "policy.grpo.steps: 10 there, 9 now"),
     (with_steps(20, kl=0.5), "policy.grpo.kl: 0.01 there, 0.5 now")],
)  # fmt: skip
def test_fewer_steps_and_other_changes_are_refused_by_name(tmp_path, changes, named):
    make_run(tmp_path / "small", **with_steps(10))
    with pytest.raises(RunFolderError) as caught:
        RunFolder.open(tmp_path / "small", make_recipe(**changes))
    assert named in str(caught.value)
    assert str(caught.value).count(" there, ") == 1


def test_a_recipe_with_the_same_result_resumes_and_is_stored_again(tmp_path):
    RunFolder.open(tmp_path / "small", make_recipe()).close()
    RunFolder.open(tmp_path / "small", make_recipe(report_to=["wandb"])).close()
    assert RunFolder.existing(tmp_path / "small").recipe.report_to == ["wandb"]


def test_fresh_moves_the_old_folder_aside_and_deletes_nothing(tmp_path):
    path = tmp_path / "small"
    for seed in (1, 2, 3):
        with RunFolder.open(path, make_recipe(seed=seed), fresh=True) as folder:
            folder.append_jsonl("metrics.jsonl", {"seed": seed})
    seeds = {
        name: list(RunFolder.existing(tmp_path / name).read_jsonl("metrics.jsonl"))
        for name in ("small", "small.1", "small.2")
    }
    assert seeds == {
        "small": [{"seed": 3}],
        "small.1": [{"seed": 1}],
        "small.2": [{"seed": 2}],
    }


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match=r"is not a run folder and not empty.*thesis.tex"):
        RunFolder.open(tmp_path, make_recipe(), fresh=fresh)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "small").write_text("x")
    with pytest.raises(RunFolderError, match="cannot be a run folder"):
        RunFolder.open(tmp_path / "small", make_recipe())


def test_a_damaged_recipe_in_the_folder_is_named(tmp_path):
    RunFolder.open(tmp_path / "small", make_recipe()).close()
    (tmp_path / "small" / "recipe.yaml").write_text("name: small\nold_key: 1\n")
    with pytest.raises(RunFolderError, match=r"(?s)another version.*--fresh.*old_key: unknown key"):
        RunFolder.open(tmp_path / "small", make_recipe())


def test_two_processes_cannot_have_one_folder(tmp_path):
    process = start(tmp_path / "small", "import time\ntime.sleep(60)")
    try:
        for fresh in (False, True):
            with pytest.raises(RunFolderError, match=f"in use by process {process.pid} on"):
                RunFolder.open(tmp_path / "small", make_recipe(), fresh=fresh)
        assert not (tmp_path / "small.1").exists()
    finally:
        kill(process)


def test_the_lock_of_a_killed_process_is_taken_over_even_if_its_worker_lives(tmp_path):
    process = start(
        tmp_path / "small",
        """
        import time
        worker = os.fork()
        if worker:
            print(worker, flush=True)
        time.sleep(60)
        """,
    )
    worker = int(process.stdout.readline())
    kill(process)
    try:
        os.kill(worker, 0)
        RunFolder.open(tmp_path / "small", make_recipe()).close()
    finally:
        os.kill(worker, signal.SIGKILL)


def is_open_elsewhere(path: Path) -> bool:
    """Open the folder in another process, and say whether it is closed to this one then."""
    other = start(path, "import time\ntime.sleep(60)")
    try:
        RunFolder.open(path, make_recipe()).close()
    except RunFolderError:
        return True
    finally:
        kill(other)
    return False


def test_a_closed_folder_can_be_opened_by_another_process(tmp_path):
    RunFolder.open(tmp_path / "small", make_recipe()).close()
    assert is_open_elsewhere(tmp_path / "small")


def test_a_refused_folder_is_not_kept_locked(tmp_path):
    make_run(tmp_path / "small")
    with pytest.raises(RunFolderError):
        RunFolder.open(tmp_path / "small", make_recipe(seed=1))
    assert is_open_elsewhere(tmp_path / "small")


def test_stages_are_remembered_with_their_summaries(tmp_path):
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        assert not folder.is_done("policy")
        folder.mark_done("judge", {"accuracy": 0.9})
        folder.mark_done("policy", {"steps": 3, "kl": float("nan")})
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        assert folder.is_done("judge") and folder.is_done("policy")
        assert folder.read_summary("policy") == {"steps": 3, "kl": None}
        folder.forget("policy")
        assert folder.is_done("judge") and not folder.is_done("policy")
        with pytest.raises(RunFolderError, match=r"policy is not finished \(finished: judge\)"):
            folder.read_summary("policy")


def test_environments_of_resumed_runs_are_kept(tmp_path):
    for environment in ({"gpu": "T4"}, {"gpu": "T4"}, {"gpu": "L4"}, {"gpu": "A100"}):
        with RunFolder.open(tmp_path / "small", make_recipe(), environment=environment) as folder:
            stored = folder.read_json("environment.json")
    assert stored == {"gpu": "A100", "earlier": [{"gpu": "T4"}, {"gpu": "L4"}]}


def test_appended_records_come_back_in_order_and_unchanged(tmp_path):
    records = [{"text": "a\nb\u2028c\r é", "n": 1.5}, {"nested": [{"x": None}]}]
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        for record in records:
            folder.append_jsonl("completions.jsonl", record)
        assert list(folder.read_jsonl("completions.jsonl")) == records
        assert list(folder.read_jsonl("none.jsonl")) == []


def test_numbers_json_cannot_hold_become_null(tmp_path):
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        folder.append_jsonl("metrics.jsonl", {"kl": float("inf"), "parts": [float("nan"), 1.0]})
        assert list(folder.read_jsonl("metrics.jsonl")) == [{"kl": None, "parts": [None, 1.0]}]


@pytest.mark.parametrize("torn", [b'{"step": 3', b'{"step": 3}', b'{"t": "\xc3', b"\x00\x00"])
def test_a_torn_last_line_is_cut_off_when_the_folder_is_opened_again(tmp_path, torn):
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        folder.append_jsonl("metrics.jsonl", {"step": 2})
    with (tmp_path / "small" / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    assert list(RunFolder.existing(tmp_path / "small").read_jsonl("metrics.jsonl")) == [{"step": 2}]
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        folder.append_jsonl("metrics.jsonl", {"step": 4})
        assert list(folder.read_jsonl("metrics.jsonl")) == [{"step": 2}, {"step": 4}]


def test_a_damaged_line_in_the_middle_is_named_with_its_number(tmp_path):
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        (folder.path / "metrics.jsonl").write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
        with pytest.raises(RunFolderError, match=r"metrics.jsonl, line 2 is damaged"):
            list(folder.read_jsonl("metrics.jsonl"))


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        folder.append_jsonl("metrics.jsonl", {"step": 1})
        real_write, calls = os.write, []

        def write_five_bytes_then_fail(descriptor, data):
            calls.append(descriptor)
            if len(calls) > 1:
                raise OSError(28, "No space left on device")
            return real_write(descriptor, data[:5])

        monkeypatch.setattr(os, "write", write_five_bytes_then_fail)
        with pytest.raises(OSError, match="No space left"):
            folder.append_jsonl("metrics.jsonl", {"step": 2})
        monkeypatch.undo()
        assert (folder.path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_truncating_drops_the_records_past_a_checkpoint(tmp_path):
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        for stage, step in [("judge", 9), ("policy", 1), ("policy", 2), ("policy", 3)]:
            folder.append_jsonl("metrics.jsonl", {"stage": stage, "step": step})
        folder.truncate_jsonl("metrics.jsonl", lambda r: r["stage"] != "policy" or r["step"] <= 1)
        assert [(r["stage"], r["step"]) for r in folder.read_jsonl("metrics.jsonl")] == [
            ("judge", 9),
            ("policy", 1),
        ]
        folder.truncate_jsonl("none.jsonl", lambda record: False)
        assert not (folder.path / "none.jsonl").exists()


def test_data_that_is_no_json_leaves_the_old_file(tmp_path):
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        folder.write_json("evaluation.json", {"esr": 0.5})
        with pytest.raises(TypeError):
            folder.write_json("evaluation.json", {"esr": object()})
        assert folder.read_json("evaluation.json") == {"esr": 0.5}


def test_missing_and_damaged_json_files_are_named(tmp_path):
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        with pytest.raises(RunFolderError, match=r"evaluation.json is missing"):
            folder.read_json("evaluation.json")
        (folder.path / "stages.json").write_text('{"judge"')
        with pytest.raises(RunFolderError, match=r"stages.json is damaged"):
            folder.is_done("judge")


def test_existing_needs_a_run_folder(tmp_path):
    with pytest.raises(RunFolderError, match=r"is not a run folder: it has no recipe.yaml"):
        RunFolder.existing(tmp_path)


def test_a_kill_at_any_moment_leaves_whole_files_and_a_folder_that_opens(tmp_path):
    path = tmp_path / "small"
    for round_ in range(4):
        process = start(
            path,
            """
            step = len(list(folder.read_jsonl("metrics.jsonl")))
            while True:
                folder.append_jsonl("metrics.jsonl", {"step": step, "text": "x" * 20000})
                folder.write_json("evaluation.json", {"step": step, "text": "y" * 200000})
                step += 1
                if step % 5 == 0:
                    print(step, flush=True)
            """,
        )
        for _ in range(round_ + 1):
            process.stdout.readline()
        kill(process)
        with RunFolder.open(path, make_recipe()) as folder:
            steps = [record["step"] for record in folder.read_jsonl("metrics.jsonl")]
            assert steps == list(range(len(steps)))
            assert folder.read_json("evaluation.json")["step"] in (len(steps) - 1, len(steps) - 2)
            assert not list(path.rglob("*.tmp"))


def test_an_interrupted_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        folder.write_json("evaluation.json", {"esr": 0.5})

        def fail(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(KeyboardInterrupt):
            folder.write_json("evaluation.json", {"esr": 0.9})
        monkeypatch.undo()
        assert folder.read_json("evaluation.json") == {"esr": 0.5}
    with RunFolder.open(tmp_path / "small", make_recipe()) as folder:
        assert json.loads((folder.path / "evaluation.json").read_text()) == {"esr": 0.5}
        assert not list(folder.path.rglob("*.tmp"))
