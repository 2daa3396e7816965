"""The estimate against counted parameters, really quantised models, and real training steps."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from accelerate import init_empty_weights
from helpers.live_memory import LiveMemory
from helpers.small_models import small_model, tiny_config
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from seccoderx_lite.core.errors import ModelError
from seccoderx_lite.models.adapters import adapter_parameters, lora_config
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.decoding import decode
from seccoderx_lite.models.engine_memory import GRAPH_BYTES, engine_bytes
from seccoderx_lite.models.estimate import CPU, GPU, computes_loss_in_tiles, estimate, shapes_of
from seccoderx_lite.models.gpus import GPUS, least_seconds
from seccoderx_lite.models.resources import disk, least_hours, main_memory
from seccoderx_lite.models.shapes import Shapes, model_shape
from seccoderx_lite.models.step_memory import (
    activation_bytes,
    cache_bytes,
    full_loss_bytes,
    generation_bytes,
    plain_attention_bytes,
    tiled_loss_bytes,
)
from seccoderx_lite.models.step_work import policy_work
from seccoderx_lite.recipe.recipe import LoraRecipe, ModelRecipe, check_recipe
from seccoderx_lite.recipe.results import Format

CONFIGS = Path(__file__).parent / "configs"
TILES = computes_loss_in_tiles(
    check_recipe({"name": "x", "model": {"base": "b"}, "export": {}}, "x")
)
PUBLISHED_PARAMETERS = {
    "Qwen2.5-Coder-1.5B-Instruct": 1_543_714_304,
    "Qwen2.5-Coder-3B-Instruct": 3_085_938_688,
    "Qwen2.5-Coder-7B-Instruct": 7_615_616_512,
    "CodeLlama-7b-Instruct-hf": 6_738_546_688,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
}


def folder_of(name, tmp_path):
    (tmp_path / "config.json").write_text((CONFIGS / f"{name}.json").read_text())
    return str(tmp_path)


@pytest.mark.parametrize(("name", "count"), PUBLISHED_PARAMETERS.items())
def test_parameters_are_those_the_model_was_published_with(name, count, tmp_path):
    folder = folder_of(name, tmp_path)
    assert model_shape(folder).parameters == count
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    model.tie_weights()
    assert sum(parameter.numel() for parameter in model.parameters()) == count


ODD = {"hidden_size": 192, "intermediate_size": 448, "tie_word_embeddings": False}


@pytest.mark.parametrize("changes", [{}, ODD], ids=["tiny", "odd sizes, untied head"])
def test_bytes_of_a_quantised_base_are_those_of_the_loaded_one(tmp_path, changes):
    folder = small_model(tmp_path / "base", **changes)
    model = load_base(ModelRecipe(base=str(folder))).model
    held = 0
    for parameter in model.parameters():
        held += parameter.nbytes
        if state := getattr(parameter, "quant_state", None):
            nested = state.state2
            tensors = (state.absmax, state.code, state.offset, nested.absmax, nested.code)
            held += sum(tensor.nbytes for tensor in tensors)
    assert model_shape(str(folder)).base_bytes("nf4", 4) == held


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]], ids=["all", "named"])
def test_lora_weights_are_those_of_the_real_adapter(targets):
    recipe = LoraRecipe(rank=4, target_modules=targets)
    model = get_peft_model(load_base(ModelRecipe(base="builtin:tiny")).model, lora_config(recipe))
    counted = sum(parameter.numel() for parameter in adapter_parameters(model, "trained").values())
    assert model_shape("builtin:tiny").lora_parameters(recipe) == counted


STEPS = {
    "wide": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 4},
    "deep": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 12},
    "large vocabulary": {"num_hidden_layers": 4, "vocab_size": 16384},
    "no grouped heads": {"num_hidden_layers": 6, "num_key_value_heads": 8},
}


@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize(
    ("changes", "attention"),
    [*((changes, "sdpa") for changes in STEPS.values()), (STEPS["deep"], "eager")],
    ids=[*STEPS, "plain attention"],
)
def test_activations_of_a_step_are_within_a_tenth_of_the_tensors_really_alive(
    tmp_path, changes, attention, checkpointed
):
    """A forward and backward pass with TRL's loss on a CPU, in float32."""
    rows, prompt, completion, rank = 2, 128, 256, 8
    config = tiny_config(**changes, attn_implementation=attention)
    config.save_pretrained(tmp_path)
    shape = model_shape(str(tmp_path))
    peak = measured_peak(config, rows, prompt, completion, rank, checkpointed)
    tokens = rows * (prompt + completion)
    if TILES:
        loss = tiled_loss_bytes(shape, rows * completion, 4, on_gpu=False)
    else:
        loss = full_loss_bytes(shape, rows * completion, 4 * 4)
    weights = plain_attention_bytes(shape, rows, prompt + completion, is_16_bit=False)
    kept = weights if attention == "eager" else 0
    expected = activation_bytes(shape, tokens, rank, 4, checkpointed, loss, kept)
    assert expected == pytest.approx(peak, rel=0.1)


def measured_peak(config, rows, prompt, completion, rank, checkpointed):
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).requires_grad_(False)
    model = get_peft_model(model, lora_config(LoraRecipe(rank=rank))).train()
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    for parameter in adapter_parameters(model, "trained").values():
        parameter.grad = torch.zeros_like(parameter)
    ids = torch.randint(0, config.vocab_size, (rows, prompt + completion))

    logprobs = tiled_logprobs if TILES else full_logprobs
    with LiveMemory() as memory:
        logprobs(model, ids, completion).sum().backward()
    return memory.peak


def full_logprobs(model, ids, completion):
    """As TRL 1.14 computes them."""
    from trl.trainer.utils import selective_log_softmax_and_entropy

    logits = model(ids, logits_to_keep=completion + 1, use_cache=False).logits
    return selective_log_softmax_and_entropy(
        logits[:, :-1], ids[:, -completion:], entropy_requires_grad=False, temperature=0.8
    )[0]


def tiled_logprobs(model, ids, completion):
    """As TRL 1.16 computes them, where only completion tokens are scored.

    Its tile is as wide as 32768 words, of which a smaller vocabulary never touches the rest.
    """
    from trl.kernels import ChunkedLogProbFunction

    inner = model.get_base_model()
    hidden = inner.model(ids, use_cache=False).last_hidden_state[:, -completion - 1 : -1]
    labels, width = ids[:, -completion:].reshape(-1), inner.config.vocab_size
    return ChunkedLogProbFunction.apply(
        hidden.reshape(-1, hidden.shape[-1]),
        inner.lm_head.weight,
        None,
        labels,
        0.8,
        width,
        None,
        1.0,
        ("log_probs", "entropy"),
    )[0]


def test_a_tiled_loss_does_not_grow_with_the_vocabulary_on_a_gpu(tmp_path):
    """By hand for 1.5B: a tile of 4096 x 32768 in 16 bits, and 4096 hidden states of 1536."""
    shape = model_shape(folder_of("Qwen2.5-Coder-1.5B-Instruct", tmp_path))
    tile, hidden = 4096 * 32768 * 2, 1536 * (2 + 4 + 2)
    assert tiled_loss_bytes(shape, 8192, 2, on_gpu=True) == tile + 8192 * hidden
    assert tiled_loss_bytes(shape, 1024, 2, on_gpu=True) == tile // 4 + 1024 * hidden
    assert full_loss_bytes(shape, 1024, 14) == 14 * 1024 * 151_936


def test_the_estimate_is_that_of_the_installed_trl_and_of_1_14_with_unsloth(monkeypatch):
    sizes = {}
    for installed in ("1.14.2", "1.16.0"):
        monkeypatch.setattr("seccoderx_lite.models.estimate.version", lambda name, v=installed: v)
        for backend in ("transformers", "unsloth"):
            model = {"base": "builtin:tiny", "backend": backend}
            judge = {"cold_start": {"data": "d"}}
            recipe = recipe_of(model=model, judge=judge)
            parts = estimate(recipe, Shapes(model_shape("builtin:tiny"), None)).phases
            sizes[installed, backend] = bytes_of(parts)["policy: update"]
    assert sizes["1.16.0", "transformers"] != sizes["1.14.2", "transformers"]
    assert sizes["1.16.0", "unsloth"] == sizes["1.14.2", "unsloth"]


def test_the_cache_is_that_of_a_real_generation():
    base = load_base(ModelRecipe(base="builtin:tiny", quantization="none"))
    with torch.no_grad():
        cache = base.model(torch.ones(3, 20, dtype=torch.long), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert cache_bytes(model_shape("builtin:tiny"), 3 * 20) == held // 2  # float32 on a CPU


SAMPLED = {
    "prompts read": ((8, 256, 8, 8), {"hidden_size": 384, "intermediate_size": 1024}),
    "grouped heads at the last token": ((8, 512, 8, 1), {}),
    "cache grown": ((16, 64, 24, 2), {"num_key_value_heads": 8}),
    "token drawn": ((16, 64, 24, 2), {"vocab_size": 32768}),
}


@pytest.mark.parametrize(("size", "changes"), SAMPLED.values(), ids=SAMPLED)
def test_sampling_is_within_a_tenth_of_the_tensors_really_alive(tmp_path, size, changes):
    """In 16 bits, as on a GPU; operations inside others are seen without inference mode."""
    rows, prompt, longest, distinct = size
    config = tiny_config(**changes, num_hidden_layers=4, attn_implementation="sdpa")
    config.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    ids = torch.randint(5, 900, (distinct, prompt)).repeat_interleave(rows // distinct, dim=0)
    mask = torch.ones_like(ids)
    mask[: rows // distinct, :3] = 0
    with LiveMemory() as memory:
        model.generate(
            ids,
            attention_mask=mask,
            custom_generate=decode,
            max_new_tokens=longest,
            do_sample=True,
            temperature=0.8,
            top_k=0,
            eos_token_id=None,
            pad_token_id=0,
        )
    expected = generation_bytes(model_shape(str(tmp_path)), rows, prompt, longest, distinct)
    assert expected == pytest.approx(memory.peak, rel=0.1)


def recipe_of(**sections):
    document = {
        "name": "x",
        "model": {"base": "builtin:tiny"},
        "judge": {"cold_start": {"data": "d"}, "align": {"data": "d"}},
        "policy": {"tasks": "t"},
        "evaluate": {"suites": ["builtin:tiny"], "batch_size": 8},
        "export": {"formats": ["adapter", "merged"]},
    }
    return check_recipe(document | sections, "x")


def bytes_of(parts):
    return {part.name: part.bytes for part in parts}


def test_an_export_is_checked_with_a_16_bit_model_in_place_of_the_base():
    shape = model_shape("builtin:tiny")
    merged, adapter = (
        bytes_of(estimate(recipe_of(export={"formats": formats}), Shapes(shape, None)).phases)
        for formats in (["adapter", "merged"], ["adapter"])
    )
    more = 2 * shape.parameters - shape.base_bytes("nf4", 2)
    assert merged["export: check"] - adapter["export: check"] == more > 0
    assert "export: check" not in bytes_of(
        estimate(recipe_of(export=None), Shapes(shape, None)).phases
    )


def test_another_model_that_grades_function_is_in_memory_during_the_evaluation():
    shape = model_shape("builtin:tiny")
    grader = {"suites": ["s"], "functionality_judge": {"base": "random:builtin:tiny"}}
    shapes = shapes_of(recipe_of(evaluate=grader))
    assert shapes.functionality == shape
    with_it, without = (
        bytes_of(estimate(recipe_of(evaluate=grader), s).phases)["evaluate"]
        for s in (shapes, Shapes(shape, None))
    )
    assert with_it - without == shape.base_bytes("nf4", 2)


def test_a_cpu_holds_float32_and_no_cuda():
    recipe, shapes = recipe_of(), Shapes(model_shape("builtin:tiny"), None)
    on_gpu, on_cpu = (bytes_of(estimate(recipe, shapes, kind).constant) for kind in (GPU, CPU))
    assert "CUDA and fragmentation" in on_gpu and "CUDA and fragmentation" not in on_cpu
    assert on_cpu["base weights"] == shapes.base.base_bytes("nf4", 4)
    for phase in ("policy: update", "policy: rollout", "evaluate", "export: check"):
        sizes = [bytes_of(estimate(recipe, shapes, kind).phases)[phase] for kind in (GPU, CPU)]
        assert sizes[1] > sizes[0]


def test_an_engine_is_in_memory_where_it_answers_and_asleep_during_the_update():
    shapes = Shapes(model_shape("builtin:tiny"), None)
    alone = recipe_of()
    engine = recipe_of(policy={"tasks": "t", "grpo": {"rollout_engine": "vllm"}})
    for hardware in (GPU, CPU):
        without, with_it = (
            bytes_of(estimate(recipe, shapes, hardware).phases) for recipe in (alone, engine)
        )
        size = engine_bytes(engine, shapes.base, hardware.dtype_bytes)
        awake = ("policy: rollout", "judge", "evaluate")
        assert [with_it.pop(name) for name in awake] == [size] * 3
        during_update = with_it.pop("policy: update") - without["policy: update"]
        assert during_update == (GRAPH_BYTES if hardware is GPU else size)
        assert all(without[name] == size for name, size in with_it.items())
    names = [part.name for part in main_memory(engine, shapes)]
    assert "vLLM asleep" in names


def test_disk_has_checkpoints_of_each_stage_and_the_exports():
    shape = model_shape("builtin:tiny")
    recipe = recipe_of(export={"formats": ["merged"]})
    adapter = 4 * shape.lora_parameters(recipe.model.lora)
    written = bytes_of(disk(recipe, Shapes(shape, None)))
    assert written["checkpoints"] == 3 * 3 * 3 * adapter
    assert written["adapters"] == 3 * adapter
    assert written["export"] == 2 * shape.parameters
    assert "download" not in written
    for form in get_args(Format):
        size = bytes_of(disk(recipe_of(export={"formats": [form]}), Shapes(shape, None)))["export"]
        assert size == adapter if form == "adapter" else size >= 2 * shape.parameters


def test_main_memory_holds_the_base_while_it_is_merged():
    shapes = Shapes(model_shape("builtin:tiny"), None)
    sizes = [
        bytes_of(main_memory(recipe_of(export=settings), shapes)).get("export: merge")
        for settings in (
            {"formats": ["adapter"]},
            {"formats": ["merged"]},
            {"formats": ["gguf"], "merge_into": "nf4"},
        )
    ]
    parameters = shapes.base.parameters
    assert sizes == [None, 2 * parameters, 2 * parameters]


def test_hours_are_bounds_of_every_stage_and_of_both_models_in_the_evaluation():
    recipe, shapes = recipe_of(), Shapes(model_shape("builtin:tiny"), None)
    hours = least_hours(recipe, shapes, GPUS["T4"], 100)
    assert list(hours) == ["cold_start", "align", "policy", "evaluate"]
    step = least_seconds(policy_work(recipe, shapes), GPUS["T4"])
    assert hours["policy"] == pytest.approx(recipe.policy.grpo.steps * step / 3600)
    only_policy = recipe_of(
        evaluate={"suites": ["builtin:tiny"], "batch_size": 8, "measure_base": False}
    )
    alone = least_hours(only_policy, shapes, GPUS["T4"], 100)
    assert alone["evaluate"] == pytest.approx(hours["evaluate"] / 2, rel=0.02)
    assert "evaluate" not in least_hours(recipe, shapes, GPUS["T4"], None)


def test_hours_contain_the_measurements_on_held_out_tasks():
    shapes = Shapes(model_shape("builtin:tiny"), None)
    policy = {"tasks": "t", "grpo": {"steps": 10}}

    def hours(**held_out):
        recipe = recipe_of(policy={**policy, "held_out": held_out})
        return least_hours(recipe, shapes, GPUS["T4"], None)["held-out tasks"]

    assert hours(every=5, count=64) == pytest.approx(2 * hours(every=5, count=32), rel=0.05)
    # Measured at 0, 5 and 10; at 0, 1, 2 ... 10.
    assert hours(every=1) == pytest.approx(11 / 3 * hours(every=5), rel=0.05)


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        model_shape(str(tmp_path / "nowhere"))
