"""From a model's name to a recipe that evaluates it; and the command itself, on a server."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers import chat_server
from helpers.cweval_checkout import write_checkout
from typer.testing import CliRunner

from seccoderx_lite.cli.app import app
from seccoderx_lite.cli.eval_code import evaluation_recipe
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.run.folder import RunFolder

SETTINGS = {"suites": ["builtin:tiny"]}


def test_a_hub_id_is_measured_alone():
    recipe = evaluation_recipe("Qwen/Qwen2.5-Coder-3B-Instruct", SETTINGS)
    assert recipe.model.base == "Qwen/Qwen2.5-Coder-3B-Instruct"
    assert (recipe.evaluate.adapter, recipe.name) == (None, "eval-Qwen2-5-Coder-3B-Instruct")


def test_of_a_run_folder_the_policy_is_measured_on_its_own_base(tmp_path):
    document = {"name": "mine", "model": {"base": "builtin:tiny"}, "evaluate": SETTINGS}
    with RunFolder.open(tmp_path / "run", check_recipe(document, "test")):
        pass
    recipe = evaluation_recipe(str(tmp_path / "run"), SETTINGS)
    assert recipe.model.base == "builtin:tiny"
    assert recipe.evaluate.adapter == str(tmp_path / "run" / "policy" / "adapter")


def test_paths_are_kept_whole_so_that_answers_can_be_graded_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "CWEval").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = evaluation_recipe("m", {"suites": ["cweval:CWEval", "builtin:tiny"]})
    assert recipe.evaluate.suites == [f"cweval:{tmp_path / 'CWEval'}", "builtin:tiny"]


def test_without_a_suite_the_command_says_what_is_missing():
    done = CliRunner().invoke(app, ["eval", "code", "m"])
    assert isinstance(done.exception, RecipeError) and "--suite" in str(done.exception)


def test_a_server_needs_the_name_of_its_model():
    with pytest.raises(RecipeError, match="--server-model"):
        evaluation_recipe("http://localhost:1/v1", SETTINGS)


def test_a_judge_on_a_server_is_named_after_its_address():
    recipe = evaluation_recipe("m", SETTINGS, judge="http://localhost:1/v1#judge")
    assert recipe.evaluate.functionality_judge.endpoint.model == "judge"
    with pytest.raises(RecipeError, match="#NAME"):
        evaluation_recipe("m", SETTINGS, judge="http://localhost:1/v1")


@pytest.fixture
def server():
    """An OpenAI-compatible server whose model knows one answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = {"choices": [{"message": {"content": "```python\nx = 1\n```"}}]}
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_behind_a_server_is_measured_and_graded_again(server, tmp_path):
    folder = tmp_path / "out"
    command = [
        "eval",
        "code",
        server,
        "--server-model",
        "m",
        "--suite",
        "builtin:tiny",
        "--limit",
        "2",
        "--no-greedy",
        "--run-folder",
        str(folder),
        "--output",
        str(tmp_path / "results.json"),
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["results"]["builtin:tiny/held_out"]["esr,none"] == 0.0
    assert results["model_name"] == "m"
    assert "ESR 0.000" in done.output and "0 unscored" in done.output
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["before"]["builtin:tiny/held_out"]["functional"] == 0.0
    assert (folder / "report.html").exists()
    again = CliRunner().invoke(app, ["eval", "code", str(folder), "--regrade"])
    assert again.exit_code == 0 and "ESR 0.000" in again.output


def test_an_evaluation_without_scores_fails_and_the_same_command_asks_again(tmp_path):
    replies = [(400, b"use max_completion_tokens"), chat_server.chat_reply("x = 1")]
    command = ["--server-model", "m", "--suite", "builtin:tiny", "--limit", "1", "--no-greedy"]
    with chat_server.server(lambda body: replies[0]) as (url, requests):
        command = ["eval", "code", url, *command, "--run-folder", str(tmp_path / "out")]
        done = CliRunner().invoke(app, command)
        assert "nothing could be scored; " in str(done.exception) and done.exit_code == 1
        asked = len(requests)
        replies.pop(0)
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0 and len(requests) == 2 * asked, done.output
        assert "no fence 100.0%" in done.output
        assert CliRunner().invoke(app, command).exit_code == 0 and len(requests) == 2 * asked
    report = (tmp_path / "out" / "report.html").read_text()
    assert "no fence 100.0%" in report and "failed_query" not in report


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    output = str(tmp_path / "file" / "results.json")
    for command in (["code", "m", "--suite", "s"], ["judge", "builtin:tiny", "--data", "d"]):
        done = CliRunner().invoke(app, ["eval", *command, "--output", output])
        assert isinstance(done.exception, RecipeError) and "cannot be written" in str(
            done.exception
        )


def test_without_a_check_a_model_must_be_named():
    done = CliRunner().invoke(app, ["eval", "code", "--suite", "builtin:tiny"])
    assert isinstance(done.exception, RecipeError) and "MODEL: is required" in str(done.exception)


def test_check_proves_the_set_up_of_cweval(tmp_path):
    checkout = write_checkout(tmp_path)
    for folder in ("core/c", "core/cpp", "core/js", "core/go", "lang"):
        shutil.rmtree(checkout / "benchmark" / folder)
    command = ["eval", "code", "--suite", f"cweval:{checkout}", "--check"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "2 right, 0 wrong" in done.output
    test = checkout / "benchmark/core/py/cwe_022_0_test.py"
    test.write_text(test.read_text().replace('match="unexpected"', 'match="another"'))
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1 and "WRONG  core/py/cwe_022_0 unsafe" in done.output
