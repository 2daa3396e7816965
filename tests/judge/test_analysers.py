"""Static analysers as judges: their reports read, their failures unscored."""

import pytest

from seccoderx_lite.judge import analysers, codeshield_rules
from seccoderx_lite.judge.analysers import (
    Analyser,
    ToolFinding,
    read_bandit,
    read_semgrep,
    verdict_of,
)
from seccoderx_lite.judge.judge import CodeToJudge

SHELL = CodeToJudge("import os\nos.system('ls ' + name)\n", "python", ("CWE-78",))

JAVA = "import java.util.Random;\nclass A { int f() { return new Random().nextInt(); } }\n"

BANDIT = {
    "errors": [{"filename": "./code0001.py", "reason": "syntax error"}],
    "results": [
        {
            "filename": "./code0000.py",
            "line_number": 2,
            "test_id": "B605",
            "issue_text": "A shell.",
            "issue_cwe": {"id": 78, "link": "x"},
        },
    ],
}
SEMGREP = {
    "errors": [{"message": "unexpected", "location": {"path": "code0000.py"}}],
    "results": [
        {
            "path": "code0001.py",
            "check_id": "shell",
            "start": {"line": 3},
            "extra": {"message": "A shell.", "metadata": {"cwe": ["CWE-78: OS Command"]}},
        },
        {
            "path": "code0001.py",
            "check_id": "copy",
            "start": {"line": 4},
            "extra": {"message": "A copy.", "metadata": {}},
        },
    ],
}


def test_reports_are_read_file_by_file():
    assert read_bandit(BANDIT) == {
        "code0000.py": [ToolFinding("CWE-78", 2, "B605 A shell.")],
        "code0001.py": "bandit: syntax error",
    }
    assert read_semgrep(SEMGREP) == {
        "code0001.py": [
            ToolFinding("CWE-78", 3, "shell: A shell."),
            ToolFinding(None, 4, "copy: A copy."),
        ],
        "code0000.py": "semgrep: unexpected",
    }


@pytest.mark.parametrize(
    ("found", "asked", "label"),
    [
        ("CWE-78", ("CWE-78",), "vulnerable"),
        ("CWE-94", ("CWE-95",), "vulnerable"),
        ("CWE-259", ("CWE-22", "CWE-798"), "vulnerable"),
        ("CWE-78", ("CWE-89",), "safe"),
        (None, ("CWE-89",), "safe"),
        (None, (), "vulnerable"),
    ],
)
def test_a_finding_counts_if_it_is_of_the_weakness_asked_about_or_its_kin(found, asked, label):
    verdict = verdict_of(CodeToJudge("x", "python", asked), [ToolFinding(found, 1, "m")])
    assert verdict.label == label and "line 1" in verdict.reasoning


def test_what_a_tool_could_not_read_is_unscored():
    verdict = verdict_of(SHELL, "bandit: syntax error")
    assert verdict.label is None and verdict.error == "bandit: syntax error"


def test_bandit_judges_python_in_the_sandbox_and_leaves_the_rest_unscored():
    pytest.importorskip("bandit")
    fixed = CodeToJudge("import subprocess\nsubprocess.run(['ls', n])\n", "python", ("CWE-89",))
    broken = CodeToJudge("def f(:\n", "python", ("CWE-78",))
    method = CodeToJudge("    def f(self):\n        return eval(self.x)\n", "python", ("CWE-78",))
    other = CodeToJudge("int f(void);", "c", ("CWE-78",))
    verdicts = Analyser("bandit").verdicts([fixed, SHELL, broken, other, method])
    assert [v.label for v in verdicts] == ["safe", "vulnerable", None, None, "vulnerable"]
    assert "syntax error" in verdicts[2].error and "Python only" in verdicts[3].error


def test_semgrep_judges_with_local_rules_in_the_sandbox():
    pytest.importorskip("semgrep")
    pytest.importorskip("codeshield")
    shell = CodeToJudge(
        "import subprocess\nsubprocess.call(n, shell=True)\n", "python", ("CWE-78",)
    )
    go = CodeToJudge("package a", "go", ("CWE-78",))
    java = CodeToJudge(JAVA, "java", ("CWE-338",))
    verdicts = Analyser("semgrep").verdicts([shell, go, java])
    assert [v.label for v in verdicts] == ["vulnerable", None, "vulnerable"]
    assert verdicts[1].error == "there are no rules for go"


def test_rules_that_cannot_be_read_leave_the_code_unscored(monkeypatch):
    pytest.importorskip("semgrep")
    pytest.importorskip("codeshield")
    monkeypatch.setattr(codeshield_rules, "BROKEN_RULES", {})
    verdict = Analyser("semgrep").verdicts([CodeToJudge(JAVA, "java", ("CWE-338",))])[0]
    assert verdict.label is None and "Invalid pattern for Java" in verdict.error


def test_a_batch_that_fails_as_a_whole_is_asked_one_by_one(monkeypatch):
    pytest.importorskip("bandit")
    asked = []

    class Failing:
        def run(self, files, command, limits):
            from seccoderx_lite.core.records import ExecutionResult

            asked.append(len(files))
            return ExecutionResult("timeout", None, "", "", 1.0, "strong")

        python = "python"

    analyser = Analyser("bandit")
    monkeypatch.setattr(analysers.Analyser, "sandbox", Failing())
    verdicts = analyser.verdicts([SHELL, CodeToJudge("x = 1", "python", ())])
    assert asked == [2, 1, 1]
    assert [v.error for v in verdicts] == ["the tool ended with timeout: no output"] * 2
