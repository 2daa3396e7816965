"""The judge as a reviewer: what is found, how it is reported, and what a killed scan leaves."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from helpers.command_line import run
from helpers.judges import rule_judge, sees_eval

import seccoderx_lite.judge as judge_room
from seccoderx_lite.cli import scan as scan_command
from seccoderx_lite.core.errors import (
    DataError,
    JudgeError,
    RecipeError,
    SandboxError,
    SeccoderxError,
)
from seccoderx_lite.core.records import Verdict
from seccoderx_lite.reporting import sarif
from seccoderx_lite.reporting.scan import as_json, as_sarif, as_text
from seccoderx_lite.stages.scan import scan

SARIF = json.loads(
    (Path(__file__).parents[1] / "data" / "samples" / "sarif-2.1.0-part.json").read_text(
        encoding="utf-8"
    )
)
NAN = float("nan")
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
    (project / "d.py").write_text("def fine():\n    return 1\n")

    def judged(item):
        if "fine" in item.code:
            return Verdict("safe")
        return Verdict(None, error="down") if "len" in item.code else Verdict("unclear")

    judge = rule_judge(
        judged,
        why_unreadable=lambda item: "too long for the judge" if "f(x)" in item.code else None,
    )
    result = scan([project], judge, cwe=["CWE-94"])
    assert (result.unscored, result.unclear, result.findings) == (1, 1, [])
    text = as_text(result)
    assert "c.py: is binary" in text
    assert "b.js:1: too long for the judge" in text
    assert "3 verdicts, 1 unclear, 1 unscored; 2 skipped" in text
    assert (result.lines.total, result.lines.judged) == (11, 4)
    assert result.lines.skipped == {
        "the judge gave no verdict": 2,
        "too long for the judge": 3,
        CALLS_NOTHING: 2,
    }


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


CALLS_NOTHING = "blank lines, comments, and code outside functions that calls nothing"


def prints_of(run):
    return {each["partialFingerprints"]["primaryLocationLineHash"] for each in run["results"]}


def uris_of(run):
    places = [each["locations"][0]["physicalLocation"] for each in run["results"]]
    return [place["artifactLocation"]["uri"] for place in places]


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
    assert places[-1]["region"] == {
        "startLine": 1,
        "startColumn": 1,
        "endLine": 1,
        "endColumn": 15,
    }
    assert len(prints_of(run)) == 4
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
import seccoderx_lite.judge as judge_room
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


def test_every_line_of_the_files_is_judged_or_counted_as_skipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, code in {
        "a.py": "# about\nimport os\n\n\ndef f():\n    pass\n\n\nX = 1",
        "b.py": "run(a)\n\n\ndef g():\n    pass\n",
        "c.c": "int x;\n\nint f(void) { return 1; } int g(void) { return 2; }\n@@\n",
        "d.go": "package d\n",
        "e.js": "",
    }.items():
        (tmp_path / name).write_text(code)
    (tmp_path / "f.py").write_bytes(b"a = '\xff'\n\n")
    result = scan(["."], rule_judge(sees_eval), cwe=["CWE-94"])
    wanted = sum(path.read_bytes().count(b"\n") for path in tmp_path.iterdir()) + 1
    assert result.lines.total == wanted
    assert result.lines.judged + sum(result.lines.skipped.values()) == wanted
    assert result.lines.judged == 2 + 3 + 3
    assert result.lines.skipped["is not UTF-8"] == 2
    assert f"{wanted} lines: 8 judged, {wanted - 8} skipped" in as_text(result)
    lines = json.loads(as_json(result))["lines"]
    assert lines == {"total": wanted, "judged": 8, "skipped": dict(result.lines.skipped)}


def test_code_next_to_functions_is_judged(project):
    code = "app.use(eval(x), (r) => {\n  r();\n});\nfunction f() {\n  return 1;\n}\n"
    (project / "b.js").write_text(code)
    (finding,) = scan(["b.js"], rule_judge(sees_eval), cwe=["CWE-94"]).findings
    assert (finding.function, finding.code) == ("<module>", "app.use(eval(x), ...\n);")


def test_a_change_in_a_function_does_not_touch_the_code_around_it(project):
    code = "run(a)\n\n\ndef f():\n    return 1\n\n\nrun(b)\n"
    (project / "b.py").write_text(code)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *command], cwd=project, check=True)
    (project / "b.py").write_text(code.replace("return 1", "return 2"))
    judge = rule_judge(sees_eval)
    result = scan(["b.py"], judge, cwe=["CWE-94"], since="HEAD")
    assert [item.code for item in judge.judge.asked] == ["def f():\n    return 2"]
    assert result.lines.skipped == {"functions unchanged since HEAD": 2, CALLS_NOTHING: 4}


def test_the_region_is_the_line_that_the_judge_points_at(project):
    code = "@deco\ndef f(a):\n    b = a\n    return eval(b)\n"
    (project / "a.py").write_text(code)

    def lines_of(verdict):
        findings = scan(["a.py"], rule_judge(lambda item: verdict), cwe=["CWE-94"]).findings
        return [(finding.line, finding.columns) for finding in findings]

    assert lines_of(Verdict("vulnerable")) == [(2, (1, 10))]
    assert lines_of(Verdict("vulnerable", line=4)) == [(4, (5, 19))]
    assert lines_of(Verdict("vulnerable", line=99)) == [(2, (1, 10))]
    assert lines_of(Verdict("vulnerable", "it calls `eval(b)` unchecked")) == [(4, (5, 19))]
    assert lines_of(Verdict("vulnerable", "`return` of `what is not there`")) == [(4, (5, 19))]


def test_paths_are_relative_to_the_top_of_the_repository(project, monkeypatch):
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    (project / "link").symlink_to(project / "app dir")
    runs = []
    for folder, path in (
        (".", "app dir/a.py"),
        ("app dir", "../app dir/a.py"),
        ("app dir", "."),
        (".", "link/a.py"),
        ("/", project / "app dir"),
    ):
        monkeypatch.chdir(project / folder)
        runs.append(sarif_of(scan([path], rule_judge(sees_eval), cwe=["CWE-94"])))
        assert uris_of(runs[-1]) == ["app%20dir/a.py"], (folder, path)
    assert len(set.union(*map(prints_of, runs))) == 1


def test_identical_functions_have_different_fingerprints(project):
    (project / "b.py").write_text("def f():\n    eval(a)\n\n\n" * 3)
    (project / "c.py").write_text("def f():\n    eval(a)\n")
    run = sarif_of(scan(["b.py", "c.py"], rule_judge(sees_eval), cwe=["CWE-94"]))
    assert len(prints_of(run)) == 4
    (project / "b.py").write_text("\n\n# moved\n" + "def f():\n    eval(a)\n\n\n" * 3)
    moved = sarif_of(scan(["b.py", "c.py"], rule_judge(sees_eval), cwe=["CWE-94"]))
    assert prints_of(moved) == prints_of(run)


def test_a_rule_has_what_code_scanning_services_show(project):
    run = sarif_of(scan(["b.js"], rule_judge(sees_eval), cwe=["CWE-94"]))
    (rule,) = run["tool"]["driver"]["rules"]
    assert "CWE-94" in rule["help"]["text"] and rule["help"]["markdown"].startswith("**[CWE-94](")
    assert rule["properties"]["security-severity"] == "9.0"
    assert rule["properties"]["precision"] == "medium"
    assert run["results"][0]["properties"]["security-severity"] == "9.0"


def test_of_too_many_results_the_surest_are_kept_and_the_rest_counted(project, monkeypatch):
    monkeypatch.setattr(sarif, "MAX_RESULTS", 3)
    (project / "a.py").write_text("".join(f"def f{n}():\n    eval({n})\n" for n in range(5)))
    judge = rule_judge(
        lambda item: Verdict("vulnerable", p_vulnerable=0.6 + int(item.code[5]) % 4 / 10)
    )
    run = sarif_of(scan(["a.py"], judge, cwe=["CWE-94"]))
    kept = [each["locations"][0]["logicalLocations"][0]["name"] for each in run["results"]]
    assert kept == ["f1", "f2", "f3"]
    note = run["invocations"][0]["toolExecutionNotifications"][0]
    assert note["message"]["text"].startswith("2 findings with a lower probability are left out")
    assert run["properties"]["findings"] == 5


def test_control_characters_of_names_are_escaped(project):
    name = os.fsdecode(b"a\x1b[31m\n\xff\xe2\x80\xae.py")
    (project / name).write_text(SOURCE)
    result = scan([name], rule_judge(sees_eval), cwe=["CWE-94"])
    assert as_text(result).startswith("a\\x1b[31m\\n\\udcff\\u202e.py:1-2: CWE-94")
    json.loads(as_json(result).encode())
    run = json.loads(as_sarif(result).encode())["runs"][0]
    assert uris_of(run) == ["a%1B%5B31m%0A%FF%E2%80%AE.py"]


def test_control_characters_of_the_judge_are_escaped(project):
    judge = rule_judge(lambda item: Verdict("vulnerable", "a\x1b]0;b\x07 \ud800"))
    text = as_text(scan(["b.js"], judge, cwe=["CWE-94"]))
    assert "a\\x1b]0;b\\x07 \\ud800" in text


@pytest.mark.parametrize(
    "verdict", [Verdict(None, error="down"), Verdict("unclear"), Verdict("safe", p_vulnerable=NAN)]
)
def test_a_judge_without_one_verdict_is_an_error_and_not_a_clean_scan(project, verdict):
    with pytest.raises(JudgeError, match="gave no verdict on any of 1 questions"):
        scan(["b.js"], rule_judge(lambda item: verdict), cwe=["CWE-94"])


def test_a_probability_that_is_not_a_number_is_unscored(project):
    judge = rule_judge(
        lambda item: Verdict("safe", p_vulnerable=NAN if "len" in item.code else 0.1)
    )
    assert scan(["app dir"], judge, cwe=["CWE-94"]).unscored == 1


def test_an_output_that_cannot_be_written_is_found_out_before_the_work(project, monkeypatch):
    judge = rule_judge(sees_eval)
    monkeypatch.setattr(scan_command, "load_judge", lambda *a, **k: judge)
    for output in (project, project / "b.js" / "out", Path("/proc/out")):
        with pytest.raises(RecipeError, match=r"--output: .* cannot be written: "):
            scan_command.run([Path("b.js")], "x", output=output)
    assert judge.judge.asked == []


def test_a_report_that_cannot_be_written_is_printed(project, monkeypatch, capsys):
    monkeypatch.setattr(scan_command, "load_judge", lambda *a, **k: rule_judge(sees_eval))
    with pytest.raises(SeccoderxError, match="could not be written: No space left"):
        scan_command.run([Path("b.js")], "x", output=Path("/dev/full"))
    assert "b.js:1-3: CWE-94" in capsys.readouterr().out


def exit_of(project, judge, *arguments, **options):
    """Run the command in a process of its own, with a judge by rule."""
    program = (
        "import sys; from helpers.judges import rule_judge, sees_eval\n"
        "from seccoderx_lite.cli import app, scan as command\n"
        "from seccoderx_lite.core.errors import ModelError\n"
        "from seccoderx_lite.core.records import Verdict\n"
        "def fails(*a, **k): raise ModelError('no such judge')\n"
        "def breaks(item): raise ZeroDivisionError('oops')\n"
        f"command.load_judge = {judge}\n"
        "app.main()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "scan", "--judge", "x", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=options.get("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("judge", "arguments", "code", "message"),
    [
        ("lambda *a, **k: rule_judge(sees_eval)", ["b.js"], 1, ""),
        ("lambda *a, **k: rule_judge(sees_eval)", ["b.js", "--cwe", "79"], 0, ""),
        ("fails", ["nowhere.py"], 2, "nowhere.py: no such file"),
        ("fails", ["b.js", "--cwe", "SQL"], 2, "'SQL' is not a CWE id"),
        ("fails", ["b.js", "--since", "main"], 2, "is not in a git repository"),
        ("fails", ["b.js", "--format", "xml"], 2, "--format"),
        ("fails", ["b.js", "--output", "."], 2, "--output"),
        ("fails", ["b.js", "--wrong"], 2, "No such option"),
        ("fails", ["b.js"], 3, "no such judge"),
        ("lambda *a, **k: rule_judge(breaks)", ["b.js"], 3, "ZeroDivisionError: oops"),
        ("lambda *a, **k: rule_judge(lambda i: Verdict(None))", ["b.js"], 3, "gave no verdict"),
    ],
)
def test_the_exit_code_tells_findings_wrong_usage_and_failures_apart(
    project, judge, arguments, code, message
):
    done = exit_of(project, judge, *arguments)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_read_enough_is_no_failure(project):
    reading, writing = os.pipe()
    os.close(reading)
    done = exit_of(project, "lambda *a, **k: rule_judge(sees_eval)", "b.js", stdout=writing)
    os.close(writing)
    assert done.returncode == 1 and "Broken" not in done.stderr


def snippet(mark):
    text = Path(judge_room.__file__).with_name("README.md").read_text(encoding="utf-8")
    return yaml.safe_load(re.search(rf"<!-- {mark} -->\n```yaml\n(.*?)```", text, re.DOTALL)[1])


def test_the_hook_and_the_workflow_call_the_command_with_options_it_has(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    (hook,) = snippet("pre-commit")["repos"][0]["hooks"]
    steps = snippet("workflow")["jobs"]["scan"]["steps"]
    (command,) = [step["run"] for step in steps if "scan" in step.get("run", "")]
    help_text = run("scan", "--help").stdout
    for line in (hook["entry"], command):
        assert line.split()[:2] == ["seccoderx-lite", "scan"]
        options = [word for word in line.split() if word.startswith("--")]
        assert options and all(option in help_text for option in options), line
