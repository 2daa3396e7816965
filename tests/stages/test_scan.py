"""The judge as a reviewer: what is found, how it is reported, and what a killed scan leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from helpers.judges import rule_judge, sees_eval

from seccoderx_lite.cli import scan as scan_command
from seccoderx_lite.core.errors import DataError, RecipeError, SandboxError
from seccoderx_lite.core.records import Verdict
from seccoderx_lite.reporting.scan import as_json, as_sarif, as_text
from seccoderx_lite.stages.scan import scan

SARIF = json.loads(
    (Path(__file__).parents[1] / "data" / "samples" / "sarif-2.1.0-part.json").read_text(
        encoding="utf-8"
    )
)
SOURCE = "def ask(text):\n    return eval(text)\n\n\ndef count(text):\n    return len(text)\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "app dir").mkdir()
    (tmp_path / "app dir" / "a.py").write_text(SOURCE)
    (tmp_path / "b.js").write_text("function f(x) {\n  return eval(x);\n}\n")
    (tmp_path / "c.py").write_bytes(b"\0")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_function_is_asked_about_each_weakness_typical_of_its_language(project):
    judge = rule_judge(sees_eval)
    result = scan([project], judge)
    asked = {(item.language, item.cwe[0]) for item in judge.judge.asked}
    assert {("python", "CWE-502"), ("javascript", "CWE-1321")} <= asked
    assert ("javascript", "CWE-502") not in asked
    assert (result.files, result.functions) == (2, 3)
    assert result.verdicts == len(judge.judge.asked)
    places = [(f.path.name, f.start_line, f.end_line, f.cwe) for f in result.findings]
    assert places == [("b.js", 1, 3, "CWE-94"), ("a.py", 1, 2, "CWE-94")]


def test_the_weaknesses_asked_for_are_the_only_ones(project):
    judge = rule_judge(sees_eval)
    assert scan([project], judge, cwe=["78", "cwe-089"]).findings == []
    assert {item.cwe for item in judge.judge.asked} == {("CWE-78",), ("CWE-89",)}
    with pytest.raises(DataError, match="is not a CWE id"):
        scan([project], judge, cwe=["SQL"])


def test_only_functions_changed_since_a_reference_are_judged(project):
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *command], cwd=project, check=True)
    changed = SOURCE.replace("len(text)", "eval(text)")
    (project / "app dir" / "a.py").write_text(changed)
    (project / "new.py").write_text("def g():\n    return eval(x)\n")
    result = scan([project], rule_judge(sees_eval), cwe=["CWE-94"], since="HEAD")
    assert [f.function for f in result.findings] == ["g", "count"]
    assert result.functions == 2


def test_what_could_not_be_judged_is_reported(project):
    judge = rule_judge(
        lambda item: Verdict(None, error="down") if "len" in item.code else Verdict("unclear"),
        why_unreadable=lambda item: "too long for the judge" if "f(x)" in item.code else None,
    )
    result = scan([project], judge, cwe=["CWE-94"])
    assert (result.unscored, result.unclear, result.findings) == (1, 1, [])
    text = as_text(result)
    assert "c.py: is binary" in text
    assert "b.js:1: too long for the judge" in text
    assert "2 verdicts, 1 unclear, 1 unscored; 2 skipped" in text


def test_a_function_too_long_with_one_of_the_weaknesses_is_not_judged(project):
    judge = rule_judge(
        sees_eval, why_unreadable=lambda item: "too long" if "CWE-94" in item.cwe else None
    )
    result = scan([project / "b.js"], judge, cwe=["CWE-79", "CWE-94"])
    assert judge.judge.asked == []
    assert [(skipped.line, skipped.reason) for skipped in result.skipped] == [(1, "too long")]


def test_a_folder_without_source_is_an_error(tmp_path):
    with pytest.raises(RecipeError, match="no source file in"):
        scan([tmp_path], rule_judge(sees_eval))


def test_the_text_names_place_weakness_probability_and_reasoning(project):
    text = as_text(scan(["app dir"], rule_judge(sees_eval), cwe=["CWE-94"]))
    assert text.startswith("app dir/a.py:1-2: CWE-94 ")
    assert "p=0.75 in ask\n    looked for eval\n" in text


def test_the_json_holds_the_same(project):
    data = json.loads(as_json(scan(["."], rule_judge(sees_eval), cwe=["CWE-94"])))
    assert [finding["file"] for finding in data["findings"]] == ["b.js", "app dir/a.py"]
    assert data["findings"][0]["p_vulnerable"] == 0.75
    assert data["skipped"] == [{"file": "c.py", "line": None, "reason": "is binary"}]


def sarif_of(result):
    log = json.loads(as_sarif(result))
    jsonschema.Draft7Validator(SARIF).validate(log)
    return log["runs"][0]


def test_the_sarif_is_valid_and_its_results_point_to_their_rules(project):
    run = sarif_of(scan(["."], rule_judge(sees_eval), cwe=["CWE-94", "CWE-95"]))
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["CWE-94", "CWE-95"]
    assert all(rules[each["ruleIndex"]] == each["ruleId"] for each in run["results"])
    places = [each["locations"][0]["physicalLocation"] for each in run["results"]]
    assert places[-1]["artifactLocation"]["uri"] == "app%20dir/a.py"
    assert places[-1]["region"] == {"startLine": 1, "endLine": 2}
    prints = {each["partialFingerprints"]["functionAndWeakness/v1"] for each in run["results"]}
    assert len(prints) == 4
    skipped = run["invocations"][0]["toolExecutionNotifications"]
    assert skipped[0]["message"]["text"] == "skipped: is binary"


def test_the_sarif_of_nothing_is_valid(project):
    assert sarif_of(scan(["b.js"], rule_judge(sees_eval), cwe=["CWE-78"]))["results"] == []


def test_a_file_outside_the_working_folder_is_named_in_full(project, monkeypatch):
    monkeypatch.chdir(project / "app dir")
    run = sarif_of(scan([project / "b.js"], rule_judge(sees_eval), cwe=["CWE-94"]))
    place = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place.startswith("file:///") and place.endswith("/b.js")


@pytest.mark.parametrize(("fail_on", "code"), [(0.5, 1), (0.75, 1), (0.76, 0), (1.1, 0)])
def test_the_threshold_decides_whether_a_finding_fails(project, monkeypatch, fail_on, code):
    monkeypatch.setattr(scan_command, "load_judge", lambda *a, **k: rule_judge(sees_eval))
    assert scan_command.run([Path("b.js")], "x", fail_on=fail_on) == code


@pytest.mark.parametrize(("found", "code"), [(True, 1), (False, 3)])
def test_verdicts_that_failed_are_not_a_clean_scan(project, monkeypatch, found, code):
    def answer(item):
        if item.cwe == ("CWE-94",):
            return Verdict("vulnerable" if found else "safe", p_vulnerable=0.9 * found)
        return Verdict(None, error="the server is gone")

    monkeypatch.setattr(scan_command, "load_judge", lambda *a, **k: rule_judge(answer))
    assert scan_command.run([Path("b.js")], "x", cwe=["CWE-94", "CWE-79"]) == code


def test_control_characters_of_names_and_reasoning_are_escaped_in_the_text(project):
    name = "\x1b[2Jb\udcff.js"
    Path(name).write_bytes(Path("b.js").read_bytes())
    judge = rule_judge(
        lambda item: Verdict("vulnerable", p_vulnerable=0.9, reasoning="so \x1b]0;title\x07")
    )
    result = scan([name], judge, cwe=["CWE-94"])
    text = as_text(result)
    assert r"\x1b[2Jb\udcff.js:" in text and r"so \x1b]0;title\x07" in text
    assert all(line.isprintable() for line in text.splitlines())
    json.loads(as_json(result).encode())


def test_a_low_threshold_makes_findings_of_safe_verdicts(project):
    judge = rule_judge(lambda item: Verdict("safe", p_vulnerable=0.3))
    assert scan(["b.js"], judge, cwe=["CWE-94"]).findings == []
    assert len(scan(["b.js"], judge, cwe=["CWE-94"], threshold=0.2).findings) == 1


def test_a_scan_that_dies_leaves_the_earlier_report(project, monkeypatch):
    def dies(item):
        raise SandboxError("killed")

    monkeypatch.setattr(scan_command, "load_judge", lambda *a, **k: rule_judge(dies))
    (project / "out.sarif").write_text("earlier")
    with pytest.raises(SandboxError):
        scan_command.run([Path("b.js")], "x", form="sarif", output=project / "out.sarif")
    assert (project / "out.sarif").read_text() == "earlier"
    monkeypatch.setattr(scan_command, "load_judge", lambda *a, **k: rule_judge(sees_eval))
    scan_command.run([Path("b.js")], "x", form="sarif", output=project / "out.sarif")
    assert json.loads((project / "out.sarif").read_text())["version"] == "2.1.0"


_SLOW_SCAN = """
import time
from pathlib import Path
from helpers.judges import rule_judge
from seccoderx_lite.cli import scan as scan_command

def judge(item):
    print("asked", flush=True)
    time.sleep(60)

scan_command.load_judge = lambda *names, **settings: rule_judge(judge)
scan_command.run([Path("b.js")], "x", form="sarif", output=Path("out.sarif"))
"""


def test_a_killed_scan_leaves_the_earlier_report_and_nothing_else(project):
    (project / "out.sarif").write_text("earlier")
    before = sorted(project.rglob("*"))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", _SLOW_SCAN], cwd=project, env=environment, stdout=subprocess.PIPE
    ) as scanning:
        assert scanning.stdout.readline() == b"asked\n"
        scanning.kill()
    assert sorted(project.rglob("*")) == before
    assert (project / "out.sarif").read_text() == "earlier"


def test_an_unknown_format_is_refused_before_the_judge_is_loaded(project):
    with pytest.raises(RecipeError, match=r"--format: must be one of text, json, sarif \(got xml"):
        scan_command.run([Path("b.js")], "nowhere", form="xml")
