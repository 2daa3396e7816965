"""What a served model cannot read is never sent: code to a judge, tasks to a measured model."""

import json

import pytest
from helpers.chat_server import chat_reply, server

from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.judge.loading import load_judge
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.stages.pipeline import train

SHORT = CodeToJudge("int(text)", "python", ("CWE-95",))
LONG = CodeToJudge("eval(text)\n" * 400, "python", ("CWE-95",))
ANSWER = "<think>x</think><answer>Not Vulnerable</answer>"


def pages(context, name="m"):
    """A server of vLLM: its models, and a tokenizer with a token per word."""

    def tokenize(body):
        words = body["messages"][0]["content"].split()
        return 200, json.dumps({"count": len(words)}).encode()

    entries = [{"id": name, "max_model_len": context}]
    if name == "base":
        entries.append({"id": "m", "parent": "base", "max_model_len": None})
    models = json.dumps({"data": entries}).encode()
    return {"/v1/models": lambda body: (200, models), "/tokenize": tokenize}


def verdicts(known):
    settings = {"max_new_tokens": 64, "verdict": "reason"}
    with server(lambda body: chat_reply(ANSWER), known) as (url, requests):
        found = load_judge(f"{url}#m", settings=settings).verdicts([SHORT, LONG])
    asked = [body for path, _, body in requests if path.endswith("chat/completions")]
    return found, asked


@pytest.mark.parametrize("name", ["m", "base"], ids=["a model", "an adapter on a base"])
def test_code_beyond_the_context_of_the_server_is_unclear_and_not_asked(name):
    found, asked = verdicts(pages(context=400, name=name))
    assert [verdict.label for verdict in found] == ["safe", "unclear"]
    assert "too long for the judge" in found[1].error and "its limit is 336" in found[1].error
    assert len(asked) == 1


@pytest.mark.parametrize(
    "known",
    [pages(context=100_000), pages(context=400, name="other"), {}],
    ids=["it fits", "another model", "the server does not say"],
)
def test_everything_else_is_asked(known):
    found, asked = verdicts(known)
    assert [verdict.label for verdict in found] == ["safe", "safe"]
    assert len(asked) == 2


def test_a_server_without_a_tokenizer_is_asked():
    known = pages(context=400)
    del known["/tokenize"]
    _, asked = verdicts({**known, "/tokenize": lambda body: (404, b"")})
    assert len(asked) == 2


def test_an_evaluation_leaves_out_tasks_beyond_the_context_of_the_server(tmp_path, caplog):
    rows = [
        {"id": name, "prompt": prompt, "language": "python", "cwe": [], "split": "held_out",
         "tests": {"kind": "calls", "entry_point": "f", "functionality": [{"expect": 1}]}}
        for name, prompt in (("short", "Write f."), ("long", "Write f. " * 400))
    ]  # fmt: skip
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("\n".join(map(json.dumps, rows)))
    answer = "```python\ndef f():\n    return 1\n```"
    with server(lambda body: chat_reply(answer), pages(context=400)) as (url, requests):
        document = {
            "name": "x",
            "model": {"base": "builtin:tiny"},
            "evaluate": {
                "suites": [str(tasks)], "samples": 1, "greedy": False,
                "max_completion_tokens": 64, "endpoint": {"url": url, "model": "m"},
            },
        }  # fmt: skip
        folder = train(check_recipe(document, "x"), tmp_path / "run")
    assert "left out 1 of 2 tasks" in caplog.text
    assert len([path for path, *_ in requests if path.endswith("chat/completions")]) == 1
    answers = (folder / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["task"] for line in answers] == ["short"]
