"""A judge that gives everything the same verdict is refused, where its verdicts leave a doubt."""

import pytest

from seccoderx_lite.core.errors import JudgeError
from seccoderx_lite.core.records import Verdict
from seccoderx_lite.data.loading import load_labelled
from seccoderx_lite.judge.loading import LoadedJudge
from seccoderx_lite.training.judge_probe import COUNT, check_that_it_tells_apart


class Scripted:
    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def verdicts(self, items):
        self.asked += items
        return [self.answer(item) for item in items]


def loaded(answer, canaries="builtin:tiny"):
    return LoadedJudge("j", {}, Scripted(answer), None, 8, canaries=canaries)


CONSTANT = {
    "all .* safe": lambda item: Verdict("safe", p_vulnerable=0.1),
    "all .* vulnerable": lambda item: Verdict("vulnerable"),
    "all .* unclear": lambda item: Verdict("unclear"),
    "it gave no verdict": lambda item: Verdict("safe", p_vulnerable=float("nan")),
}


@pytest.mark.parametrize("reason", CONSTANT)
@pytest.mark.parametrize("given", [["safe"], ["unclear"] * 3, [None]])
def test_a_judge_with_one_verdict_for_everything_is_refused(reason, given):
    with pytest.raises(JudgeError, match=f"j cannot judge: .*{reason}"):
        check_that_it_tells_apart(loaded(CONSTANT[reason]), given)


def test_a_judge_whose_verdicts_differ_is_not_asked():
    judge = loaded(CONSTANT["all .* safe"])
    check_that_it_tells_apart(judge, ["safe", "vulnerable"])
    assert not judge.judge.asked


def test_a_judge_that_found_nothing_but_tells_code_apart_passes():
    known = {row.code: row.is_vulnerable for row in load_labelled("builtin:tiny")}
    judge = loaded(lambda item: Verdict("vulnerable" if known[item.code] else "safe"))
    check_that_it_tells_apart(judge, ["safe"] * 5)
    assert len(judge.judge.asked) == COUNT
    assert sum(known[item.code] for item in judge.judge.asked) == COUNT // 2


def test_its_own_code_is_replaced_where_it_is_gone(caplog):
    with pytest.raises(JudgeError):
        check_that_it_tells_apart(loaded(CONSTANT["all .* safe"], "./gone.jsonl"), ["safe"])
    assert "built-in code" in caplog.text


def test_analysers_and_servers_are_not_asked():
    judge = loaded(CONSTANT["all .* safe"], canaries=None)
    check_that_it_tells_apart(judge, ["safe"])
    assert not judge.judge.asked
