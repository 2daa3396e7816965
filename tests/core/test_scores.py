"""The ESR formula, and the content of evaluation.json."""

from seccoderx_lite.core.scores import Difference, Evaluation, SuiteDifference, SuiteResult


def test_what_was_not_measured_is_not_in_the_file():
    assert Evaluation().as_json() == {}
    change = Difference(0.5, (0.25, 0.75), 4, left_out=1)
    evaluation = Evaluation(
        before={"mine": SuiteResult(esr=0.5)}, difference={"mine": SuiteDifference(esr=change)}
    )
    data = evaluation.as_json()
    assert set(data) == {"before", "difference"} and data["before"]["mine"]["esr"] == 0.5
    assert data["difference"]["mine"] == {"esr": {"mean": 0.5, "interval_95": (0.25, 0.75), "n": 4}}
