"""Exports: what is merged, what is refused, what the card says."""

import json
import re
import shutil

import pytest
import torch
from helpers.small_runs import COMPLETION, PROMPT, live_logprobs, run_with_policy
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from seccoderx_lite.core.errors import ModelError, RunStopped
from seccoderx_lite.evaluation.fidelity import Expected, is_close
from seccoderx_lite.evaluation.held_out import Measurement
from seccoderx_lite.evaluation.metrics import SampleScore, TaskScores
from seccoderx_lite.models.base import load_base, resolve_base
from seccoderx_lite.models.export_files import export_adapter, export_merged
from seccoderx_lite.models.gguf import find_tools
from seccoderx_lite.models.plain_models import valid_generation_config
from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.reporting.model_card import model_card
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.stages import export
from seccoderx_lite.stages.export import fell_too_far, run
from seccoderx_lite.stages.start_checks import check_export
from seccoderx_lite.training.role_proofs import sequence_logprobs


@pytest.fixture
def folder(tmp_path):
    with run_with_policy(tmp_path / "run") as folder:
        yield folder


@pytest.mark.parametrize("merge_into", ["base", "nf4"])
def test_a_merged_model_is_sixteen_bit_and_close_to_the_live_policy(folder, tmp_path, merge_into):
    base = load_base(folder.recipe.model)
    export_merged(base, folder.policy_adapter, tmp_path / "merged", merge_into == "nf4")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    bare = AutoModelForCausalLM.from_pretrained(resolve_base("builtin:tiny"), dtype=torch.float32)
    assert merged.dtype is torch.bfloat16
    assert not hasattr(merged, "peft_config")
    live = live_logprobs(folder)
    with torch.no_grad():
        gap = (sequence_logprobs(merged.float(), PROMPT, COMPLETION) - live).abs().mean()
        without = (sequence_logprobs(bare, PROMPT, COMPLETION) - live).abs().mean()
    assert gap < without


def test_merging_into_the_round_trip_is_closer_than_into_the_base(folder, tmp_path):
    base = load_base(folder.recipe.model)
    live, gaps = live_logprobs(folder), {}
    for merge_into in ("base", "nf4"):
        target = tmp_path / merge_into
        export_merged(base, folder.policy_adapter, target, merge_into == "nf4")
        merged = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
        with torch.no_grad():
            gaps[merge_into] = (sequence_logprobs(merged, PROMPT, COMPLETION) - live).abs().mean()
    assert gaps["nf4"] < gaps["base"]


def test_merging_in_sixteen_bits_rounds_each_weight_once(folder, tmp_path):
    """As if the base were held in float32: the sums are, though the base is not."""
    base = load_base(folder.recipe.model)
    export_merged(base, folder.policy_adapter, tmp_path / "merged", False)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    whole = AutoModelForCausalLM.from_pretrained(resolve_base("builtin:tiny"), dtype=torch.float32)
    adapted = PeftModel.from_pretrained(whole, str(folder.policy_adapter)).merge_and_unload()
    for name, weight in adapted.state_dict().items():
        assert torch.equal(merged[name], weight.to(torch.bfloat16)), name


def test_an_exported_adapter_has_the_layout_that_vllm_loads(folder, tmp_path):
    """What vLLM asks of an adapter: vllm/lora/peft_helper.py and utils.py of vllm-project/vllm."""
    export_adapter(load_base(folder.recipe.model), folder.policy_adapter, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert {"r", "lora_alpha", "target_modules"} <= config.keys()
    assert not config["modules_to_save"] and not config["use_dora"] and config["bias"] == "none"
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    linear = r"base_model\.model\.model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"
    assert all(re.fullmatch(linear + r"\.lora_[AB]\.weight", name) for name in names)


def test_an_exported_adapter_has_the_tokenizer_and_the_chat_template(folder, tmp_path):
    base = load_base(folder.recipe.model)
    base.tokenizer.chat_template = "changed: " + base.tokenizer.chat_template
    export_adapter(base, folder.policy_adapter, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.chat_template == base.tokenizer.chat_template
    assert tokenizer.get_vocab() == base.tokenizer.get_vocab()


def test_a_merged_model_is_a_whole_model_folder(folder, tmp_path):
    export_merged(load_base(folder.recipe.model), folder.policy_adapter, tmp_path / "m", False)
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    } <= {file.name for file in (tmp_path / "m").iterdir()}


def test_the_judge_is_exported_with_a_card_of_its_own(folder, tmp_path):
    shutil.copytree(folder.policy_adapter, folder.judge_adapter)
    folder.mark_done(
        "cold_start",
        {
            "held_out": {
                "transfer": {"accuracy": 0.94, "unclear_share": 0.0, "n": 204.0, "unscored": 0.0}
            }
        },
    )
    with Sandbox("limits-only", 1) as sandbox:
        figures = run(
            folder.recipe,
            folder,
            load_base(folder.recipe.model),
            sandbox,
            role="judge",
            target=tmp_path / "out",
        )
    assert set(figures) == {"merged"}
    card = (tmp_path / "out" / "merged" / "README.md").read_text()
    assert "to detect vulnerable code" in card
    assert "| transfer | 0.940 | 0.000 | 204 |" in card
    (result,) = ModelCard(card).data.eval_results
    assert (result.dataset_type, result.metric_type, result.metric_value) == (
        "transfer",
        "accuracy",
        0.94,
    )
    page = (tmp_path / "out" / "README.md").read_text()
    assert "seccoderx-lite scan src/ --judge merged" in page


def test_a_judge_that_was_never_trained_is_not_exported(folder, tmp_path):
    with (
        Sandbox("limits-only", 1) as sandbox,
        pytest.raises(ModelError, match="is not a judge adapter; run the stage cold_start"),
    ):
        run(folder.recipe, folder, load_base(folder.recipe.model), sandbox, role="judge")


def other_adapter(folder, source, kind):
    """A copy of the policy adapter that is wrong in some way."""
    shutil.copytree(source, folder)
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    settings, tensors = json.loads(config.read_text()), load_file(weights)
    if kind == "bare base":
        tensors = {name: tensor * ("lora_A" in name) for name, tensor in tensors.items()}
    elif kind == "half the scale":
        config.write_text(json.dumps({**settings, "lora_alpha": settings["lora_alpha"] / 2}))
    elif kind == "another adapter":
        noise = torch.Generator().manual_seed(1)
        tensors = {
            name: torch.randn(tensor.shape, generator=noise) * tensor.std()
            for name, tensor in tensors.items()
        }
    save_file(tensors, weights)
    return folder


@pytest.mark.parametrize("form", ["adapter", "merged"])
@pytest.mark.parametrize("kind", ["right", "bare base", "half the scale", "another adapter"])
def test_the_gate_passes_the_right_export_and_no_other(kind, form, folder, tmp_path, monkeypatch):
    """Tests run no code here: the models alone are compared."""
    wrong = other_adapter(tmp_path / "wrong", folder.policy_adapter, kind)
    true_adapter, true_merged = export.export_adapter, export.export_merged

    def merged(base, source, target, into_round_trip, before_merge):
        true_merged(base, source, tmp_path / "unused", into_round_trip, before_merge)
        true_merged(base, wrong, target, into_round_trip)

    monkeypatch.setattr(export, "export_merged", merged)
    monkeypatch.setattr(
        export, "export_adapter", lambda base, source, target: true_adapter(base, wrong, target)
    )
    document = folder.recipe.model_dump(mode="json")
    document["export"] = {"formats": [form], "gate_tasks": 2, "max_esr_drop": 1.0}
    document["evaluate"] = {"suites": ["builtin:tiny"], "max_completion_tokens": 24}
    recipe = check_recipe(document, "x")
    with Sandbox("limits-only", 1) as sandbox:
        arguments = recipe, folder, load_base(recipe.model), sandbox
        if kind == "right":
            figures = run(*arguments)[form]
            assert figures["kl"] < figures["bare_kl"] / 50
            assert (folder.export / form).is_dir()
            return
        with pytest.raises(RunStopped, match=rf"the {form} export differs .*KL divergence"):
            run(*arguments)
    assert not (folder.export / form).exists() and (folder.export / "rejected" / form).is_dir()


@pytest.mark.parametrize(
    ("failed", "tasks", "is_refused"),
    [(1, 64, False), (4, 64, True), (1, 16, False), (1, 2, False), (2, 16, True)],
)
def test_a_fall_of_esr_is_never_that_of_one_task_alone(failed, tasks, is_refused):
    assert fell_too_far(failed / tasks, tasks, 0.05) is is_refused


@pytest.mark.slow
@pytest.mark.parametrize("form", ["gguf-q8_0", "gguf-q4_k_m"])
def test_a_quantised_gguf_file_is_checked_by_tests_and_says_how_to_use_it(form, folder, caplog):
    try:
        find_tools([form], None)
    except ModelError as error:
        pytest.skip(str(error))
    document = folder.recipe.model_dump(mode="json")
    document["export"] = {"formats": [form], "gate_tasks": 2, "max_kl": 1e-9, "max_esr_drop": 1.0}
    document["evaluate"] = {"suites": ["builtin:tiny"], "max_completion_tokens": 24}
    recipe = check_recipe(document, "x")
    with Sandbox("limits-only", 1) as sandbox:
        figures = run(recipe, folder, load_base(recipe.model), sandbox)[form]
    assert 0 < figures["kl"] < figures["bare_kl"]
    assert "export_functional" in figures and "no tests checked" not in caplog.text
    file = f"model-{form.removeprefix('gguf-')}.gguf"
    names = {entry.name for entry in (folder.export / form).iterdir()}
    assert names == {"Modelfile", "README.md", file}
    assert (folder.export / form / "Modelfile").read_text().startswith(f"FROM ./{file}\n")
    assert f"ollama create my-policy -f {form}/" in (folder.export / "README.md").read_text()


def test_a_missing_program_ends_an_export_before_anything_is_measured(
    folder, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    document = folder.recipe.model_dump(mode="json")
    document["export"] = {"formats": ["adapter", "gguf-q4_k_m"], "llama_cpp": str(tmp_path)}
    recipe = check_recipe(document, "x")
    for start in (
        lambda: run(recipe, folder, base=None, sandbox=None),
        lambda: check_export(recipe),
    ):
        with pytest.raises(ModelError, match=r"export.*gguf"):
            start()
    assert not folder.export.exists()


def solved(*scores):
    samples = [SampleScore(functional, secure) for functional, secure in scores]
    return Measurement(0, tuple(TaskScores(str(n), (), (s,)) for n, s in enumerate(samples)))


@pytest.mark.parametrize(
    ("live", "exported", "fault"),
    [
        ([(1.0, None)] * 8, [(0.0, None)] * 8, "functional share on 8 tasks is 0.000"),
        ([(1.0, 1.0)] * 8, [(1.0, 0.0)] * 8, "ESR on 8 tasks is 0.000"),
        ([(1.0, None)] * 8, [(1.0, None)] * 7 + [(0.0, None)], None),
        ([(0.0, None)] * 8, [(1.0, None)] * 8, None),
    ],
)
def test_function_counts_where_tasks_have_no_security_tests(live, exported, fault):
    found = export._lost(solved(*live), solved(*exported), 0.05)
    assert (fault in found[0]) if fault else not found


@pytest.mark.parametrize("kl", [float("nan"), float("inf"), 0.2])
def test_a_divergence_that_is_no_number_or_too_large_is_not_close(kl):
    assert not is_close(Expected(torch.zeros(1, 1), from_bare=1.0), kl, most=0.1)


def test_a_judge_from_elsewhere_is_not_exported_in_the_policys_place_either(folder, tmp_path):
    shutil.copytree(folder.policy_adapter, tmp_path / "judge")
    document = folder.recipe.model_dump(mode="json")
    document["judge"] = {"adapter": str(tmp_path / "judge")}
    recipe = check_recipe(document, "x")
    with (
        Sandbox("limits-only", 1) as sandbox,
        pytest.raises(ModelError, match="contains the judge's weights"),
    ):
        run(recipe, folder, load_base(recipe.model), sandbox)


def test_the_card_says_what_was_measured(folder):
    assert "Nothing was measured in this run." in model_card(folder.recipe, folder, "merged")
    scores = {
        "functional": 0.95,
        "secure": 0.9,
        "esr": 0.88,
        "n": 40,
        "interval_95": {"esr": [0.8, 0.95]},
    }
    folder.write_json("evaluation.json", {"before": {}, "after": {"builtin:tiny/held_out": scores}})
    card = model_card(folder.recipe, folder, "merged")
    assert "| builtin:tiny/held_out | after | 0.950 | 0.900 | 0.880 [0.800, 0.950] | 40 |" in card
    assert ModelCard(card).data.base_model is None  # a hub refuses a base that it does not have


def test_an_invalid_generation_config_of_the_base_does_not_fail_an_export(folder, tmp_path, caplog):
    base = load_base(folder.recipe.model)
    config = GenerationConfig(eos_token_id=3, do_sample=False)
    config.temperature = 0.3
    with pytest.raises(ValueError, match="invalid"):
        config.save_pretrained(tmp_path)
    valid = valid_generation_config(config)
    valid.save_pretrained(tmp_path)
    assert valid.eos_token_id == 3
    assert "only its token ids" in caplog.text
    own = base.model.generation_config
    assert valid_generation_config(own) is own


@pytest.mark.parametrize("before", [None, "# How to use these exports\n\nold", "# My project"])
def test_the_page_on_how_to_use_exports_replaces_no_other(tmp_path, before):
    (tmp_path / "merged").mkdir()
    page = tmp_path / "README.md"
    if before:
        page.write_text(before)
    export._write_usage(tmp_path, "policy")
    assert ("## `merged`" in page.read_text()) is (before != "# My project")


def test_held_out_tasks_of_which_none_leaves_room_for_an_answer_are_named(folder, monkeypatch):
    monkeypatch.setattr(export, "too_long", lambda m, t, prompts, n: [True] * len(prompts))
    with pytest.raises(ModelError, match=r"none of \d+ held-out tasks leaves room"):
        run(folder.recipe, folder, load_base(folder.recipe.model), sandbox=None)


def test_a_half_made_export_of_a_killed_run_is_removed(tmp_path):
    (tmp_path / ".making-merged").mkdir()
    (tmp_path / "adapter").mkdir()
    export.remove_half_made(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["adapter"]
