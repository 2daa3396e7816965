"""Results in the layout of lm-evaluation-harness."""

import math

import pytest

from seccoderx_lite.core.scores import CodeScores, SuiteResult
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.reporting.lm_eval import code_results

RECIPE = check_recipe(
    {
        "name": "e",
        "model": {"base": "org/model-1B"},
        "evaluate": {"suites": ["s"], "adapter": "runs/x/policy/adapter", "samples": 2},
    },
    "test",
)
SUITES = {
    "s": SuiteResult(
        functional=0.5,
        secure=1.0,
        esr=0.5,
        func_sec=0.25,
        n=8,
        unscored=3,
        interval_95={"functional": (0.3, 0.7)},
        at_k={1: {"func@k": 0.25}, 2: {"func@k": 0.5}},
        greedy=CodeScores(functional=0.75, n=8),
    ),
    "benign": SuiteResult(functional=1.0, n=2),
}


def test_a_metric_has_a_value_an_error_and_a_filter():
    results = code_results(SUITES, RECIPE, "after")["results"]
    found = results["s"]
    assert found["functional,none"] == 0.5 and found["functional,greedy"] == 0.75
    assert found["functional_stderr,none"] == pytest.approx(0.4 / 3.92, rel=1e-3)
    assert found["esr_stderr,none"] == "N/A"
    assert (found["func@1,none"], found["func@2,none"]) == (0.25, 0.5)
    assert found["alias"] == "s" and found["sample_len"] == 8


def test_what_was_not_measured_is_absent():
    results = code_results(SUITES, RECIPE, "after")
    assert [key for key in results["results"]["benign"] if "sec" in key or "esr" in key] == []
    numbers = [v for v in results["results"]["benign"].values() if isinstance(v, float)]
    assert all(map(math.isfinite, numbers))


def test_every_task_has_the_entries_that_readers_look_up():
    results = code_results(SUITES, RECIPE, "after")
    for part in ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples"):
        assert list(results[part]) == ["s", "benign"], part
    assert results["higher_is_better"]["s"]["functional"] is True
    assert results["configs"]["s"]["metadata"]["unscored"] == 3
    assert results["model_name_sanitized"] == "org_model-1B"


@pytest.mark.parametrize(("phase", "has_adapter"), [("before", False), ("after", True)])
def test_the_adapter_is_named_only_where_it_was_measured(phase, has_adapter):
    arguments = code_results(SUITES, RECIPE, phase)["config"]["model_args"]
    assert arguments.startswith("pretrained=org/model-1B")
    assert ("peft=runs/x/policy/adapter" in arguments) == has_adapter
