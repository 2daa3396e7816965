"""Measuring a judge: resumed without asking twice, failures unscored, numbers as scikit-learn's."""

import json

import pytest
from helpers import chat_server, command_line
from helpers.judges import rule_judge, sees_eval
from sklearn import metrics as oracle
from typer.testing import CliRunner

from seccoderx_lite.cli import eval_judge
from seccoderx_lite.cli.app import app
from seccoderx_lite.core.errors import JudgeError, RecipeError, RunFolderError, SandboxError
from seccoderx_lite.core.records import LabelledCode, Verdict
from seccoderx_lite.reporting.detection_text import render_evaluation
from seccoderx_lite.stages import judge_evaluation

CODE = [
    LabelledCode(code, language, ("CWE-95",), is_vulnerable, pair=pair)
    for code, language, is_vulnerable, pair in [
        ("eval(a)", "python", True, "1"),
        ("int(a)", "python", False, "1"),
        ("exec(b)", "python", True, "2"),
        ("eval('1')", "python", False, "2"),
        ("eval(c)", "javascript", True, None),
        ("Number(c)", "javascript", False, None),
    ]
]


def run(judge, folder, labelled=CODE, **options):
    return judge_evaluation.run(judge, labelled, folder, data="here", **options)


def test_every_number_is_that_of_scikit_learn(tmp_path):
    result = run(rule_judge(sees_eval), tmp_path / "e")
    truths, said = [True, False] * 3, [True, False, False, True, True, False]
    scores = result.detection
    assert scores.accuracy == oracle.accuracy_score(truths, said)
    assert scores.f1 == pytest.approx(oracle.f1_score(truths, said))
    assert scores.per_language["javascript"].accuracy == 1.0
    assert (result.pairs.correct, result.pairs.reversed) == (1, 1)
    probabilities = [0.75 * each for each in said]
    auc = oracle.roc_auc_score(truths, probabilities)
    assert result.probabilities.roc_auc == pytest.approx(auc)
    stored = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert stored["detection"]["confusion"] == scores.confusion


def test_an_interrupted_evaluation_asks_only_for_the_rest(tmp_path):
    def dies(item):
        if item.code == "int(a)":
            raise SandboxError("killed")
        return sees_eval(item)

    with pytest.raises(SandboxError):
        run(rule_judge(dies), tmp_path)
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write('{"index": 1, "sam')  # the line a crash tore
    kept = len((tmp_path / "answers.jsonl").read_text().splitlines()) - 1
    second = rule_judge(sees_eval)
    result = run(second, tmp_path)
    assert kept > 0 and len(second.judge.asked) == len(CODE) - kept
    assert result.detection.n == len(CODE)
    again = rule_judge(sees_eval)
    assert run(again, tmp_path).detection == result.detection
    assert again.judge.asked == []


def test_what_failed_is_unscored_with_its_reason_and_asked_again(tmp_path):
    def fails(item):
        return Verdict(None, error="no route") if "eval" in item.code else sees_eval(item)

    result = run(rule_judge(fails), tmp_path)
    assert (result.detection.unscored, result.detection.n) == (3, 3)
    assert result.errors == {"no route": 3}
    assert "3 x no route" in render_evaluation(result)
    assert run(rule_judge(sees_eval), tmp_path).detection.unscored == 0


def test_code_that_the_judge_cannot_read_is_wrong_and_counted(tmp_path):
    judge = rule_judge(
        sees_eval, why_unreadable=lambda item: "long" if "exec" in item.code else None
    )
    result = run(judge, tmp_path)
    assert result.unread == 1 and result.detection.unclear == 1
    assert "1 unclear (counted as wrong; 1 of them too long to read)" in render_evaluation(result)


@pytest.mark.parametrize("change", ["judge", "data", "samples"])
def test_a_folder_of_another_evaluation_is_refused(tmp_path, change):
    run(rule_judge(sees_eval), tmp_path)
    judge = rule_judge(sees_eval, name="other" if change == "judge" else "rule")
    labelled = CODE[:4] if change == "data" else CODE
    with pytest.raises(RunFolderError, match=rf"another evaluation \({change} differ\)"):
        run(judge, tmp_path, labelled, samples=3 if change == "samples" else 1)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(
        RunFolderError, match=r"not an evaluation folder and not empty \(it has thesis.txt\)"
    ):
        run(rule_judge(sees_eval), tmp_path)


def test_an_analyser_does_not_sample(tmp_path):
    with pytest.raises(RecipeError, match="--samples: rule does not sample"):
        run(rule_judge(sees_eval), tmp_path, samples=2)


def test_a_limit_draws_whole_pairs_and_always_the_same(tmp_path):
    rows = [
        {"code": f"{side}{n}", "language": "c", "cwe": [], "is_vulnerable": side == "x", "pair": n}
        for n in range(20)
        for side in "xy"
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = judge_evaluation.load_data(str(path), 5)
    assert len(chosen) == 10 and len({code.pair for code in chosen}) == 5
    assert chosen == judge_evaluation.load_data(str(path), 5)
    assert len(judge_evaluation.load_data(str(path), 99)) == 40


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [
        {
            "code": c.code,
            "language": c.language,
            "cwe": list(c.cwe),
            "pair": c.pair,
            "is_vulnerable": c.is_vulnerable,
        }
        for c in CODE
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_two_judges_are_compared_on_the_same_code(tmp_path, data, monkeypatch):
    judges = {"good": sees_eval, "blind": lambda item: Verdict("safe")}
    monkeypatch.setattr(
        eval_judge, "load_judge", lambda name, **options: rule_judge(judges[name], name)
    )
    monkeypatch.chdir(tmp_path)
    folder, result = eval_judge.evaluate_judge("good", data, against="blind")
    assert result.comparison.differences["accuracy"].mean == pytest.approx(4 / 6 - 3 / 6)
    assert "good minus blind" in render_evaluation(result)
    kept = tmp_path / "runs" / "eval-judge-blind-data"
    _, earlier = eval_judge.evaluate_judge("good", data, against=str(kept))
    assert earlier.comparison.differences == result.comparison.differences
    with pytest.raises(RecipeError, match="was measured on other code"):
        eval_judge.evaluate_judge(
            "good", data, limit=2, against=str(kept), run_folder=tmp_path / "x"
        )
    assert folder.name == "eval-judge-good-data"


def test_the_command_fails_if_nothing_could_be_scored_and_says_why(tmp_path, data):
    with chat_server.server(lambda body: (400, b"no such model")) as (url, _):
        command = ["eval", "judge", f"{url}#m", "--data", data, "--run-folder", str(tmp_path / "e")]
        done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, JudgeError) and done.exit_code == 1
    assert "nothing could be scored" in str(done.exception) and "no such model" in done.output


def test_the_command_measures_the_builtin_model(tmp_path, data):
    command = ("eval", "judge", "builtin:tiny", "--data", data, "--output", "results.json")
    done = command_line.run(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert "builtin:tiny cannot judge: " in done.stderr  # an untrained base: all is unclear
    assert "builtin:tiny on" in done.stdout and "95% interval" in done.stdout
    stored = tmp_path / "runs" / "eval-judge-builtin-tiny-data" / "evaluation.json"
    detection = json.loads(stored.read_text())["detection"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert detection["n"] == 6
    assert results["results"][data]["accuracy,none"] == detection["accuracy"]
    assert results["model_name"] == "builtin:tiny"


@pytest.mark.parametrize("field", [{"label": "perhaps"}, {"p_vulnerable": "much"}, {"error": 5}])
def test_a_stored_line_without_a_verdict_is_damage_and_not_a_verdict(field, tmp_path):
    row = {"index": 0, "sample": 0, "label": "safe", "reasoning": "", "error": None, **field}
    (tmp_path / "answers.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(RunFolderError, match="the line of index 0 has no verdict"):
        judge_evaluation.read_verdicts(tmp_path, 1, 1)
