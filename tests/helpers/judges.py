"""Judges that answer by a rule, in the place of a model."""

from seccoderx_lite.core.records import Verdict
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.judge.loading import LoadedJudge


class RuleJudge:
    """Answers by a function of the code, and remembers what it was asked."""

    def __init__(self, rule):
        self.rule = rule
        self.asked: list[CodeToJudge] = []

    def verdicts(self, items):
        self.asked += items
        return [self.rule(item) for item in items]


def rule_judge(rule, name="rule", **fields) -> LoadedJudge:
    """Return a loaded judge that answers by `rule(item) -> Verdict`."""
    return LoadedJudge(name, {"rule": name}, RuleJudge(rule), None, 2, **fields)


def sees_eval(item: CodeToJudge) -> Verdict:
    """Call code with `eval(` vulnerable to code injection."""
    is_bad = "eval(" in item.code and item.cwe[0] in ("CWE-94", "CWE-95")
    reasoning = f"<think>\nlooked for eval\n</think>\n<answer>{is_bad}</answer>"
    return Verdict("vulnerable" if is_bad else "safe", reasoning, p_vulnerable=0.75 * is_bad)
