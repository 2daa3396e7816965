"""Export the policy or the judge: an adapter in the PEFT layout, a merged 16-bit model, or GGUF.

An adapter has the tokenizer and its chat template with it, because both can differ from the base's.

An adapter is merged into the 16-bit base (`merge_into: base`), or into the base quantised to NF4
and back, in 16 bits (`nf4`: the very weights that training used); never into 4-bit weights, which
would round small changes away. Each sum is computed in float32 and rounded once.

Every export is loaded again with plain transformers and PEFT and compared with the trained adapter,
like with like (see `evaluation.fidelity`): an adapter on the base it was trained on, a merged model
with the adapter on the very weights it was merged into. For a policy, the tests of a few held-out
tasks are run as well, and compared with those of the policy as it was trained; they alone decide
on a quantised GGUF file, because quantisation can change more than training has. An export that
differs by more than the recipe allows is rejected; the others are still made.

At most one model is in memory: the loaded base is released before the first merge.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import torch
from peft import PeftModel
from safetensors.torch import load_file

from seccoderx_lite.core.errors import ModelError, RunStopped
from seccoderx_lite.core.records import Json, Task
from seccoderx_lite.data.loading import validation_tasks
from seccoderx_lite.evaluation.fidelity import (
    Expected,
    Probe,
    distance,
    is_close,
    logprobs_of,
    make_probes,
    mean_kl,
)
from seccoderx_lite.evaluation.held_out import HeldOutTasks, Measurement, measurements_of
from seccoderx_lite.judge.judge import CodeToJudge, judge_prompt, verdict_forms
from seccoderx_lite.models.adapter_files import check_adapter
from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import attach_adapter, detach_adapters
from seccoderx_lite.models.base import Base
from seccoderx_lite.models.context import too_long
from seccoderx_lite.models.estimate import gate_batch
from seccoderx_lite.models.export_files import export_adapter, export_merged
from seccoderx_lite.models.generation import PlainGenerator, RoleGenerator, TextGenerator
from seccoderx_lite.models.gguf import (
    GgufTools,
    find_tools,
    gguf_file,
    gguf_precision,
    is_gguf,
    write_gguf,
)
from seccoderx_lite.models.ollama import modelfile
from seccoderx_lite.models.plain_models import load_plain
from seccoderx_lite.recipe.recipe import ExportRecipe, Format, Recipe
from seccoderx_lite.reporting.model_card import model_card
from seccoderx_lite.reporting.usage import TITLE, usage_page
from seccoderx_lite.run import stopping
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress, no_progress, note
from seccoderx_lite.sandbox import Sandbox

logger = logging.getLogger(__name__)

GATE_PROMPTS = 8
"""Prompts along whose answers models are compared."""

_MAKING = ".making-"
"""Beginning of the names of folders that are not complete yet."""

Role = Literal["policy", "judge"]


@dataclass(frozen=True, slots=True)
class _Live:
    """The trained adapter on the base it was trained on."""

    probes: list[Probe]
    expected: Expected
    solved: Measurement | None
    """What its code does in the held-out tasks; None for a judge."""


@dataclass(frozen=True, slots=True)
class _Check:
    """What every export is measured by."""

    tasks: list[Task]
    prompts: list[str]
    solves: bool
    """Whether the tasks are solved, as a policy does."""
    recipe: Recipe
    sandbox: Sandbox

    def solve(self, generator: TextGenerator) -> tuple[Measurement | None, list[str]]:
        """Return how greedy answers do in the tests, and the answers to the prompts to compare."""
        if not self.solves:
            return None, [""] * len(self.prompts)
        limit = _completion_limit(self.recipe)
        tasks = HeldOutTasks(tuple(self.tasks), generator, self.sandbox, 1, limit, 0.0)
        rows = tasks.solve(0)
        return measurements_of(rows)[0], [row["completion"] for row in rows[:GATE_PROMPTS]]


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

    `base` must be the one that the role's adapter was trained on; its model is released if a
    format contains the base. The exports go to `target` (default: the run folder's `export/`),
    where they replace earlier ones of the same format.

    Raises:
        ModelError: the role's adapter is missing, or the policy's is the judge's.
        RunStopped: exports differ too much from the trained adapter; they are kept in `rejected`,
            and all others are made.
    """
    settings = recipe.export or ExportRecipe()
    target = target or folder.export
    source = _adapter_of(role, recipe, folder)
    tools = find_tools(settings.formats, settings.llama_cpp)
    tasks = _gate_tasks(recipe, settings.gate_tasks, base)
    check = _Check(tasks, _prompts(tasks, recipe, role), role == "policy", recipe, sandbox)
    note(progress, "export", f"measuring the trained {role}, to compare the exports with it")
    live = _measure_live(base, source, check)
    figures: dict[str, Json] = {}
    remove_half_made(target)
    faults: list[str] = []
    forms = sorted(settings.formats, key=lambda form: form != "adapter")  # needs the loaded base
    for number, form in enumerate(forms):
        stopping.check(f"before the export as {form}")
        note(progress, "export", f"writing the {form} export")
        made = target / f"{_MAKING}{form}"  # renamed only when it is complete and has passed
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        if form != "adapter":  # it contains the base, which is loaded in 16 bits
            base.release()
        expected = _write(form, base, source, made, recipe, live, tools)
        (made / "README.md").write_text(model_card(recipe, folder, form, role), "utf-8")
        note(progress, "export", f"comparing the {form} export with the trained {role}")
        figures[form], found = _compare(form, base, made, expected, live, check)
        _replace_folder(made, target / "rejected" / form if found else target / form)
        if found:
            faults.append(f"the {form} export differs from the trained {role}: {'; '.join(found)}")
            logger.error("export: %s", faults[-1])
        progress("export", number + 1, len(forms), figures[form])
    _write_usage(target, role)
    if faults:
        raise RunStopped(
            f"export: {'. '.join(faults)}. Rejected exports are in {target / 'rejected'}; set "
            "export.merge_into: nf4 if NF4 is the cause, take a GGUF format with more bits, or use "
            "the adapter"
        )
    return figures


def _write_usage(target: Path, role: Role) -> None:
    """Say how to use the exports in a folder, unless it has a README.md of somebody else."""
    page = target / "README.md"
    ready = [form for form in get_args(Format) if (target / form).is_dir()]
    if ready and not (page.exists() and not page.read_text("utf-8", "replace").startswith(TITLE)):
        page.write_text(usage_page(ready, role), "utf-8")


def remove_half_made(target: Path) -> None:
    """Remove what an export that was killed has left."""
    for leftover in target.glob(f"{_MAKING}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _prompts(tasks: Sequence[Task], recipe: Recipe, role: Role) -> list[str]:
    """Return what models are asked when they are compared: a judge, about the references."""
    if role == "policy" or recipe.judge is None:
        return [task.prompt for task in tasks[:GATE_PROMPTS]]
    form = verdict_forms(recipe.judge)[0]
    return [
        judge_prompt(
            CodeToJudge(task.reference or task.prompt, task.language, task.cwe), recipe.judge, form
        )
        for task in tasks[:GATE_PROMPTS]
    ]


def _measure_live(base: Base, source: Path, check: _Check) -> _Live:
    detach_adapters(base)
    attach_adapter(base, source, "trained")
    solved, answers = check.solve(RoleGenerator(base, "trained", gate_batch(check.recipe)))
    probes = make_probes(base.tokenizer, check.prompts, answers)
    with acting_as("trained", base.model, base.tokenizer) as model:
        logprobs = logprobs_of(model, probes)
    with acting_as("reference", base.model, base.tokenizer) as model:
        from_bare = mean_kl(logprobs, logprobs_of(model, probes))
    detach_adapters(base)
    return _Live(probes, Expected(logprobs, from_bare, base.model.dtype), solved)


def _write(
    form: Format,
    base: Base,
    source: Path,
    target: Path,
    recipe: Recipe,
    live: _Live,
    tools: GgufTools | None,
) -> Expected:
    """Write one format into a folder; return what it should be like."""
    settings = recipe.export or ExportRecipe()
    if form == "adapter":
        export_adapter(base, source, target)
        return live.expected
    into_round_trip = recipe.model.quantization == "nf4" and settings.merge_into == "nf4"
    expected: list[Expected] = []

    def measure(model: Any) -> None:
        logprobs = logprobs_of(model, live.probes)
        with model.disable_adapter():
            from_bare = mean_kl(logprobs, logprobs_of(model, live.probes))
        expected.append(Expected(logprobs, from_bare, model.dtype))

    if form == "merged":
        export_merged(base, source, target, into_round_trip, measure)
        return expected[0]
    assert tools is not None
    with TemporaryDirectory(dir=target) as merged:  # goes with it if the process is killed
        export_merged(base, source, Path(merged), into_round_trip, measure)
        write_gguf(Path(merged), target, form, tools)
    (target / "Modelfile").write_text(modelfile(base.tokenizer, gguf_file(form)), "utf-8")
    return expected[0]


def _compare(
    form: Format, base: Base, made: Path, expected: Expected, live: _Live, check: _Check
) -> tuple[dict[str, Json], list[str]]:
    """Load an export; return the figures, and how it differs too much."""
    batch = gate_batch(check.recipe)
    if form == "adapter":
        base.model = PeftModel.from_pretrained(base.model, str(made)).eval()
        logprobs = logprobs_of(base.model, live.probes)
        solved, _ = check.solve(RoleGenerator(base, "trained", batch))
        detach_adapters(base)
    else:
        model = load_plain(made, gguf_file(form) if is_gguf(form) else None).eval()
        logprobs = logprobs_of(model, live.probes)
        solved, _ = check.solve(PlainGenerator(model, base.tokenizer, batch))
    near = distance(expected, logprobs)
    figures: dict[str, Json] = {
        "kl": near.kl,
        "agreement": near.agreement,
        "bare_kl": expected.from_bare,
        "kl_to_live": mean_kl(live.expected.logprobs, logprobs),
    }
    settings = check.recipe.export or ExportRecipe()
    most = 0.0 if form == "adapter" else settings.max_kl  # nothing is rounded in an adapter
    faults = []
    close = isfinite(near.kl) if _is_quantised(form) else is_close(expected, near.kl, most)
    if not close:
        faults.append(
            f"its KL divergence per token is {near.kl:.3g}, more than {most:g} x "
            f"{expected.from_bare:.3g}, that of the bare base (export.max_kl), and than rounding"
        )
    if live.solved and solved:
        figures |= {"live_functional": live.solved.functional, "live_esr": live.solved.esr}
        figures |= {"export_functional": solved.functional, "export_esr": solved.esr}
        faults += _lost(live.solved, solved, settings.max_esr_drop)
    if _is_quantised(form) and not (solved and solved.functional is not None):
        logger.warning(
            "export: no tests checked the %s export; its KL divergence per token is %.3g, that of "
            "the bare base %.3g",
            form,
            near.kl,
            expected.from_bare,
        )
    return figures, faults


def _is_quantised(form: Format) -> bool:
    return is_gguf(form) and gguf_precision(form) != "f16"


def _lost(live: Measurement, export: Measurement, most: float) -> list[str]:
    """Return what an export does too much worse than the live policy."""
    values = (
        ("functional share", live.functional, export.functional, len(export.tasks)),
        ("ESR", live.esr, export.esr, sum(task.mean("esr") is not None for task in export.tasks)),
    )
    faults = []
    for name, before, after, tasks in values:
        if before is not None and after is not None and fell_too_far(before - after, tasks, most):
            faults.append(
                f"its {name} on {tasks} tasks is {after:.3f} and that of the trained policy "
                f"{before:.3f}, a drop of more than export.max_esr_drop {most:g}"
            )
    return faults


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
    if all(long):
        raise ModelError(
            f"export: none of {len(tasks)} held-out tasks leaves room in the model's context for "
            f"an answer of {_completion_limit(recipe)} tokens, so that exports could not be "
            "compared; lower evaluate.max_completion_tokens"
        )
    tasks = [task for task, is_long in zip(tasks, long, strict=True) if not is_long]
    return [task for task in tasks if task.tests][:count] or list(tasks[:count])


def _completion_limit(recipe: Recipe) -> int:
    return recipe.evaluate.max_completion_tokens if recipe.evaluate else 1024


def fell_too_far(drop: float, tasks: int, most: float) -> bool:
    """Whether an ESR dropped by more than `most`, which a single task alone cannot cause."""
    return drop > most and drop * tasks > 1 + 1e-9


def _replace_folder(made: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    made.rename(target)
