"""Export the policy or the judge: an adapter in the PEFT layout, a merged 16-bit model, or GGUF.

An adapter is merged into the 16-bit base (`merge_into: base`), or into the base quantised to NF4
and back, in 16 bits (`nf4`: the very weights that training used); never into 4-bit weights, which
would round small changes away. Each sum is computed in float32 and rounded once.

Every export is loaded again with plain transformers and PEFT and compared with the trained adapter:
by logits, and for a policy by running the tests of a few held-out tasks. An export that differs by
more than the recipe allows is rejected.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig

from seccoderx_lite.core.errors import ModelError, RunStopped, reason_of
from seccoderx_lite.core.esr import effective_safety_rate
from seccoderx_lite.core.records import Json, Task, TestResult
from seccoderx_lite.data.loading import validation_tasks
from seccoderx_lite.models.adapter_files import check_adapter
from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import attach_adapter, detach_adapters
from seccoderx_lite.models.base import Base, compute_dtype, nf4_config, resolve_base
from seccoderx_lite.models.context import too_long
from seccoderx_lite.models.estimate import gate_batch
from seccoderx_lite.models.generation import generate_texts, prompt_ids
from seccoderx_lite.models.gguf import FILE, convert, find_converter, modelfile
from seccoderx_lite.recipe.recipe import ExportRecipe, Recipe
from seccoderx_lite.reporting.model_card import model_card
from seccoderx_lite.rewards.unit_tests import measured_code, run_tests
from seccoderx_lite.run import stopping
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress, no_progress, note
from seccoderx_lite.sandbox import Sandbox

logger = logging.getLogger(__name__)

GATE_PROMPTS = 8
"""Prompts whose logits are compared."""

_MAKING = ".making-"
"""Beginning of the names of folders that are not complete yet."""

Role = Literal["policy", "judge"]


@dataclass(frozen=True, slots=True)
class _Behaviour:
    """What an export and the trained adapter are compared by."""

    logits: list[torch.Tensor]
    """Of each prompt; shape (T, vocabulary)."""
    esr: float | None
    """Mean over the tasks, None if none of them has an ESR."""
    tasks: int
    """Tasks with an ESR."""


def run(
    recipe: Recipe,
    folder: RunFolder,
    base: Base,
    sandbox: Sandbox,
    progress: Progress = no_progress,
    *,
    role: Role = "policy",
    target: Path | None = None,
) -> dict[str, Json]:
    """Export a trained adapter in every format of the recipe; return each format's gate figures.

    `base` must be the one that the role's adapter was trained on. The exports go to `target`
    (default: the run folder's `export/`), where they replace earlier ones of the same format.

    Raises:
        ModelError: the role's adapter is missing, or the policy's is the judge's.
        RunStopped: an export differs too much from the trained adapter; it is kept in `rejected`.
    """
    settings = recipe.export or ExportRecipe()
    target = target or folder.export
    source = _adapter_of(role, recipe, folder)
    tasks = _gate_tasks(recipe, settings.gate_tasks, base)
    tested = tasks if role == "policy" else []
    note(progress, "export", f"measuring the trained {role}, to compare the exports with it")
    detach_adapters(base)
    attach_adapter(base, source, "trained")
    with acting_as("trained", base.model, base.tokenizer) as live:
        expected = _behaviour(live, base.tokenizer, tasks, tested, recipe, sandbox)
    detach_adapters(base)
    figures: dict[str, Json] = {}
    remove_half_made(target)
    for number, form in enumerate(settings.formats):
        stopping.check(f"before the export as {form}")
        note(progress, "export", f"writing the {form} export")
        made = target / f"{_MAKING}{form}"  # renamed only when it is complete and has passed
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        model = _export_as(form, base, source, made, recipe)
        (made / "README.md").write_text(model_card(recipe, folder, form, role), "utf-8")
        note(progress, "export", f"comparing the {form} export with the trained {role}")
        got = _behaviour(model.eval(), base.tokenizer, tasks, tested, recipe, sandbox)
        if form == "adapter":
            base.model = model
            detach_adapters(base)
        figures[form] = _gate(form, expected, got, settings, made)
        _replace_folder(made, target / form)
        progress("export", number + 1, len(settings.formats), figures[form])
    return figures


def remove_half_made(target: Path) -> None:
    """Remove what an export that was killed has left."""
    for leftover in target.glob(f"{_MAKING}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _export_as(form: str, base: Base, source: Path, target: Path, recipe: Recipe) -> Any:
    """Write one format into a folder, and return the model as loaded from there."""
    if form == "adapter":
        export_adapter(base.name, source, target)
        if base.arguments:
            base.tokenizer.save_pretrained(target)  # the adapter needs this chat template
        return PeftModel.from_pretrained(base.model, str(target))
    settings = recipe.export or ExportRecipe()
    quantized = recipe.model.quantization == "nf4" and settings.merge_into == "nf4"
    if form == "merged":
        export_merged(base, source, target, quantized)
        return load_plain(target)
    _export_gguf(base, source, target, quantized, settings.llama_cpp)
    return load_plain(target, FILE)


def _adapter_of(role: Role, recipe: Recipe, folder: RunFolder) -> Path:
    given = recipe.judge.adapter if recipe.judge else None
    adapter = Path(given) if given else folder.judge_adapter
    if role == "policy":
        _refuse_judge(folder.policy_adapter, adapter)
        return folder.policy_adapter
    if not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"export: {adapter} is not a judge adapter; run the stage cold_start or align first"
        )
    check_adapter(adapter, "export")
    return adapter


def _refuse_judge(policy_adapter: Path, judge_adapter: Path) -> None:
    policy = policy_adapter / "adapter_model.safetensors"
    judge = judge_adapter / "adapter_model.safetensors"
    if not policy.is_file():
        raise ModelError(
            f"export: {policy.parent} is not a policy adapter; run the stage policy first"
        )
    check_adapter(policy_adapter, "export")
    if judge.is_file():
        check_adapter(judge_adapter, "export")
        ours, theirs = load_file(policy), load_file(judge)
        same = ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
        if same:
            raise ModelError(
                f"export: {policy.parent} contains the judge's weights, not the policy's; "
                "train the policy again with --stage policy"
            )


def _gate_tasks(recipe: Recipe, count: int, base: Base) -> list[Task]:
    tasks = validation_tasks(recipe.policy.tasks if recipe.policy else "builtin:tiny")
    prompts = [task.prompt for task in tasks]
    long = too_long(base.model, base.tokenizer, prompts, _completion_limit(recipe))
    tasks = [task for task, is_long in zip(tasks, long, strict=True) if not is_long]
    return [task for task in tasks if task.tests][:count] or list(tasks[:count])


def _completion_limit(recipe: Recipe) -> int:
    return recipe.evaluate.max_completion_tokens if recipe.evaluate else 1024


def _behaviour(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[Task],
    tested: Sequence[Task],
    recipe: Recipe,
    sandbox: Sandbox,
) -> _Behaviour:
    """Return the model's logits along some prompts, and its greedy ESR on the tasks to test."""
    logits = []
    device = next(model.parameters()).device
    for ids in prompt_ids(tokenizer, [task.prompt for task in tasks[:GATE_PROMPTS]]):
        with torch.no_grad():
            batch = torch.tensor([ids], device=device)
            logits.append(model(input_ids=batch).logits[0].float().cpu())
    texts = generate_texts(
        model,
        tokenizer,
        [task.prompt for task in tested],
        max_new_tokens=_completion_limit(recipe),
        temperature=0.0,
        batch_size=gate_batch(recipe),
    )
    codes = [measured_code(task, text).code for task, text in zip(tested, texts, strict=True)]
    results = run_tests(sandbox, tested, codes)
    rates = [_safety_rate(result) for result in results if result is not None]
    esr = [rate for rate in rates if rate is not None]
    return _Behaviour(logits, sum(esr) / len(esr) if esr else None, len(esr))


def _safety_rate(result: TestResult) -> float | None:
    """ESR; None for a task without security tests. Code that cannot be loaded has no counts: 0."""
    is_benign = result.functional_total and not result.security_total
    secure = None if is_benign else float(result.is_secure)
    return effective_safety_rate(result.functional_share or 0.0, secure)


def fell_too_far(drop: float, tasks: int, most: float) -> bool:
    """Whether an ESR dropped by more than `most`, which a single task alone cannot cause."""
    return drop > most and drop * tasks > 1 + 1e-9


def _gate(
    form: str, expected: _Behaviour, got: _Behaviour, settings: ExportRecipe, made: Path
) -> dict[str, Json]:
    """Compare an export with the trained adapter; return the figures, or reject it."""
    gaps = [(a - b).abs().mean().item() for a, b in zip(expected.logits, got.logits, strict=True)]
    gap = max(gaps, default=0.0)
    faults = []
    if gap > settings.max_logit_difference:
        faults.append(
            f"its logits differ by {gap:.3f} on average, more than export.max_logit_difference "
            f"{settings.max_logit_difference:g}"
        )
    if (
        expected.esr is not None
        and got.esr is not None
        and fell_too_far(expected.esr - got.esr, got.tasks, settings.max_esr_drop)
    ):
        faults.append(
            f"its ESR on {got.tasks} tasks is {got.esr:.3f} and that of the trained policy "
            f"{expected.esr:.3f}, a drop of more than export.max_esr_drop {settings.max_esr_drop:g}"
        )
    if faults:
        rejected = made.parent / "rejected" / form
        _replace_folder(made, rejected)
        raise RunStopped(
            f"export: the {form} export differs from the trained adapter: {'; '.join(faults)}. "
            f"It is in {rejected}; set export.merge_into: nf4, or export an adapter"
        )
    return {"logit_difference": round(gap, 4), "live_esr": expected.esr, "export_esr": got.esr}


def _replace_folder(made: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    made.rename(target)


def export_adapter(base_name: str, source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
    config_file = target / "adapter_config.json"
    config = json.loads(config_file.read_text())
    config["base_model_name_or_path"] = resolve_base(base_name)
    config_file.write_text(json.dumps(config, indent=2))


def export_merged(base: Base, source: Path, target: Path, into_round_trip: bool) -> None:
    """Write the merged model in 16 bits, in shards, with tokenizer and generation config."""
    half = torch.float16 if compute_dtype() is torch.float16 else torch.bfloat16
    place = resolve_base(base.name)
    if into_round_trip:
        quantized = AutoModelForCausalLM.from_pretrained(
            place, dtype=torch.float32, quantization_config=nf4_config(torch.float32)
        )
        model = quantized.dequantize(dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(place, dtype=half)
    peft = PeftModel.from_pretrained(model, str(source), autocast_adapter_dtype=True)
    merged = peft.merge_and_unload().to(half)
    merged.generation_config = valid_generation_config(merged.generation_config)
    merged.save_pretrained(target, max_shard_size="4GB")
    base.tokenizer.save_pretrained(target)


def valid_generation_config(config: GenerationConfig) -> GenerationConfig:
    """Return a config that can be saved: that of the base, or its token ids if it is invalid.

    Many published models have one that transformers loads but refuses to save.
    """
    try:
        config.validate(strict=True)
        return config
    except ValueError as error:
        logger.warning(
            "the base's generation_config.json is invalid (%s): the export has only its token ids",
            reason_of(error),
        )
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: getattr(config, name, None) for name in names})


def _export_gguf(
    base: Base, source: Path, target: Path, into_round_trip: bool, checkout: str | None
) -> None:
    converter = find_converter(checkout)
    with TemporaryDirectory(dir=target) as merged:  # goes with it if the process is killed
        export_merged(base, source, Path(merged), into_round_trip)
        convert(Path(merged), target, converter)
    (target / "Modelfile").write_text(modelfile(base.tokenizer), "utf-8")


def load_plain(folder: Path, gguf_file: str | None = None) -> Any:
    options: dict[str, Any] = {"dtype": compute_dtype(), "gguf_file": gguf_file}
    if torch.cuda.is_available():
        options["device_map"] = {"": torch.cuda.current_device()}
    return AutoModelForCausalLM.from_pretrained(folder, **options)
