"""The reward as EasyR1 and verl call it, on inputs in the form they pass them."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
from helpers.chat_server import chat_reply, server

from seccoderx_lite.core.errors import DataError, JudgeError, RecipeError
from seccoderx_lite.core.records import Task, Verdict
from seccoderx_lite.rewards.reward_formula import reward_parts
from seccoderx_lite.rewards.verl import compute_score
from seccoderx_lite.rewards.verl_scorer import scorer_of

SAFE = "def run(text):\n    return int(text)"
UNSAFE = "def run(text):\n    return eval(text)"
COLUMNS = {
    "scenario_id": 7,
    "scenario_text": "A calculator.",
    "design_plan": "",
    "language_suffix": "py",
    "cwe": "CWE-95",
    "cwe_id": numpy.array(["CWE-95"], dtype=object),
    "cwe_name": numpy.array(["Eval Injection"], dtype=object),
    "generated_code": SAFE,
    "record_code": UNSAFE,
    "answer": None,
    "codebleu_lang": "python",
}
"""The columns of the alignment set as EasyR1's `non_tensor_batch` holds them: without the prompt,
which its data loader takes out, and with lists as arrays."""


JUDGED = ((SAFE, "safe"), (UNSAFE, "vulnerable"))


def easyr1_input(code):
    text = f"Here it is:\n```python\n{code}\n```"
    return {"response": text, "response_length": 20, "ground_truth": "", "metadata": COLUMNS}


def judged(body):
    prompt = body["messages"][0]["content"]
    verdict = "Vulnerable" if "eval(" in prompt else "Not Vulnerable"
    return chat_reply(f"<think>looked</think><answer>{verdict}</answer>")


@pytest.fixture
def recipe(tmp_path):
    def write(url, policy="policy: {tasks: unused}"):
        file = tmp_path / "reward.yaml"
        judge = f"judge: {{endpoint: {{url: {json.dumps(url)}, model: judge, timeout_s: 5.0}}}}"
        sandbox = "sandbox: {isolation: limits-only, workers: 1}"
        file.write_text(f"name: reward\nmodel: {{base: unused}}\n{judge}\n{policy}\n{sandbox}\n")
        return str(file)

    yield write
    scorer_of.cache_clear()


def expected(code, label):
    task = Task("1", "-", "python", ("CWE-95",), reference=SAFE)
    completion = easyr1_input(code)["response"]
    return reward_parts(completion, task, Verdict(label), "guarded")


def test_easyr1_gets_the_reward_and_its_parts(recipe):
    with server(judged) as (url, _):
        safe, unsafe = compute_score([easyr1_input(SAFE), easyr1_input(UNSAFE)], recipe=recipe(url))
    assert safe["overall"] == pytest.approx(expected(SAFE, "safe")["reward"])
    assert unsafe["overall"] == pytest.approx(expected(UNSAFE, "vulnerable")["reward"])
    assert (safe["vulnerability"], unsafe["vulnerability"]) == (1.0, 0.0)
    assert safe["unscored"] == 0.0
    assert all(isinstance(value, float) for value in safe.values())


def test_verl_gets_numbers_in_the_order_of_its_batch(recipe):
    rows = [easyr1_input(code) for code in (UNSAFE, SAFE)]
    with server(judged) as (url, _):
        scores = compute_score(
            data_sources=numpy.array(["seccoderx"] * 2),
            solution_strs=[row["response"] for row in rows],
            ground_truths=[None, None],
            extra_infos=numpy.array([COLUMNS, COLUMNS], dtype=object),
            recipe=recipe(url),
        )
    assert scores == pytest.approx(
        [expected(UNSAFE, "vulnerable")["reward"], expected(SAFE, "safe")["reward"]]
    )


def test_a_rollout_we_failed_to_score_gets_the_mean_of_the_others_and_is_counted(recipe):
    def fails_for_eval(body):
        return (500, b"") if "eval(" in body["messages"][0]["content"] else judged(body)

    with server(fails_for_eval) as (url, _):
        safe, failed = compute_score([easyr1_input(SAFE), easyr1_input(UNSAFE)], recipe=recipe(url))
    assert (safe["unscored"], failed["unscored"]) == (0.0, 1.0)
    assert failed["overall"] == safe["overall"]


def test_a_batch_of_which_nothing_could_be_scored_is_an_error(recipe):
    broken = server(lambda body: (500, b""))
    with broken as (url, _), pytest.raises(JudgeError, match="none of 1 rollouts"):
        compute_score([easyr1_input(SAFE)], recipe=recipe(url))


def test_columns_that_are_no_task_are_named(recipe):
    with pytest.raises(DataError, match="missing column generated_code"):
        columns = {key: value for key, value in COLUMNS.items() if key != "generated_code"}
        compute_score(
            [{**easyr1_input(SAFE), "metadata": {**columns}}], recipe=recipe("http://127.0.0.1:9")
        )


def test_a_judge_that_would_need_the_trainers_gpu_is_refused(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("name: x\nmodel: {base: b}\njudge: {adapter: a}\npolicy: {tasks: t}\n")
    with pytest.raises(RecipeError, match="endpoint is required here"):
        compute_score([easyr1_input(SAFE)], recipe=str(file))


def verl_rollout(code, recipe):
    return compute_score(
        data_source="own",
        solution_str=easyr1_input(code)["response"],
        ground_truth="",
        extra_info=dict(COLUMNS),
        recipe=recipe,
    )


def test_verl_asks_for_one_rollout_at_a_time_from_several_threads(recipe):
    codes = [SAFE, UNSAFE] * 4
    with server(judged) as (url, requests), ThreadPoolExecutor(8) as pool:
        file = recipe(url)
        scores = list(pool.map(lambda code: verl_rollout(code, file), codes))
    good, bad = (expected(code, label)["reward"] for code, label in JUDGED)
    assert [score["score"] for score in scores] == pytest.approx([good, bad] * 4)
    assert all(score.keys() == {"score", "unscored"} for score in scores)
    assert len(requests) == 2


def test_a_rollout_of_verl_that_cannot_be_scored_gets_the_mean_of_the_ones_before(recipe):
    fails = []

    def reply(body):
        return (422, b"no") if fails else judged(body)

    with server(reply) as (url, _):
        file = recipe(url)
        good = verl_rollout(SAFE, file)
        fails.append(True)
        failed = verl_rollout(UNSAFE, file)
    assert failed == {"score": good["score"], "unscored": 1.0}


def test_a_first_rollout_of_verl_that_cannot_be_scored_is_an_error(recipe):
    with (
        server(lambda body: (422, b"no")) as (url, _),
        pytest.raises(JudgeError, match="could be scored"),
    ):
        verl_rollout(SAFE, recipe(url))
