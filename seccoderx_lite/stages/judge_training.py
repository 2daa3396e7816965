"""Train the judge: a supervised cold start on answers with reasoning, then GRPO on the labels.

The reward of `align` is that of SecCoderX (`seccoder_rm.py`, compute_score_without_cwe):
0.9 x accuracy + 0.1 x format, accuracy in {0, 1}, format in {0, 0.2}. A verdict that cannot be
parsed is the judge's own failure here and has accuracy 0.
"""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Literal

from seccoderx_lite.core.errors import DataError, ModelError
from seccoderx_lite.core.records import Json, LabelledCode
from seccoderx_lite.data.loading import in_split, load_labelled
from seccoderx_lite.judge.judge import (
    CodeToJudge,
    Judge,
    judge_accuracy,
    judge_prompt,
    verdict_forms,
)
from seccoderx_lite.judge.unsure_band import (
    SETTINGS_FILE,
    after_reasoning,
    calibrated_band,
    unsure_band,
)
from seccoderx_lite.judge.verdict import judge_answer
from seccoderx_lite.models.adapters import attach_adapter, detach_adapters, save_adapter
from seccoderx_lite.models.base import Base
from seccoderx_lite.models.context import rollout_prompt_limit, within_context
from seccoderx_lite.models.distributed import is_first_process
from seccoderx_lite.models.generation import prompt_ids
from seccoderx_lite.recipe.recipe import AlignRecipe, ColdStartRecipe, JudgeRecipe, Recipe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress, no_progress, note
from seccoderx_lite.training.canaries import describe_accuracy
from seccoderx_lite.training.examples import deciding_example, example
from seccoderx_lite.training.judge_reward import LabelReward
from seccoderx_lite.training.order import Row, in_turns
from seccoderx_lite.training.resuming import train
from seccoderx_lite.training.settings import grpo_config, sequences_per_step, sft_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import make_grpo_trainer, make_sft_trainer, prepare_generation

logger = logging.getLogger(__name__)

HELD_OUT_SPLITS = ("held_out", "transfer")

TrainedOn = Literal["verdict", "direct", "reason"]
TURNS: Mapping[Literal["direct", "reason", "cascade"], tuple[TrainedOn, ...]] = {
    "direct": ("verdict", "direct", "verdict", "verdict"),
    "reason": ("reason",),
    "cascade": ("verdict", "direct", "reason"),
}
"""What the steps of the cold start train, in turn, by verdict mode: the deciding token of direct
answers alone, whole direct answers, and whole reasoned answers. The short form of a direct answer
is learnt in a few steps, the verdict in hundreds.

The loss is a mean over tokens, and of the dozen tokens of a direct answer one tells the verdict.
Whole answers teach the format; there the deciding token has the weight of one of a dozen, and in
one batch with long reasoned answers it would have almost none. In a step on that token alone it has
the whole weight, and the accuracy of the step is that of the verdict: `verdict_accuracy`.
"""

JudgeStage = Literal["cold_start", "align"]


def section_of(judge: JudgeRecipe, stage: JudgeStage) -> ColdStartRecipe | AlignRecipe:
    """Return the section of a stage that the recipe is known to have."""
    section = judge.align if stage == "align" else judge.cold_start
    assert section is not None
    return section


def last_stage(judge: JudgeRecipe) -> JudgeStage:
    """Return the stage whose adapter becomes the run's judge."""
    return "align" if judge.align else "cold_start"


def cold_start(
    recipe: Recipe, folder: RunFolder, base: Base, progress: Progress = no_progress
) -> dict[str, Json]:
    """Train a new judge adapter on labelled code with reasoning; return the summary to record.

    Raises:
        DataError: the data has no reasoning to learn from, or every example is too long.
    """
    judge = recipe.judge
    assert judge is not None and judge.cold_start is not None
    section = judge.cold_start
    detach_adapters(base)
    labelled = in_split(load_labelled(section.data), "train")
    rows, dropped = _sft_rows(labelled, judge, section, base)
    checkpoints = folder.checkpoints("judge/cold_start")
    turns = TURNS[judge.verdict]
    recorder = StepRecorder(
        "cold_start",
        folder,
        progress,
        PhaseClock(),
        lambda step: {"trained_on": turns[(step - 1) % len(turns)]},
    )
    config = sft_config(recipe, section, checkpoints)
    ordered = in_turns(rows, turns, config.max_steps, sequences_per_step(config), recipe.seed)
    trainer = make_sft_trainer(base, recipe, config, ordered, recorder)
    train(trainer, checkpoints)
    save_adapter(base.model, "trained", folder.path / "judge" / "cold_start")
    detach_adapters(base)
    examples = sum(len(rows[form]) for form in verdict_forms(judge))
    summary = {"examples": examples, "too_long": dropped}
    return summary | _finish(recipe, folder, base, "cold_start", progress)


def _sft_rows(
    labelled: Sequence[LabelledCode],
    judge: JudgeRecipe,
    section: ColdStartRecipe,
    base: Base,
) -> tuple[dict[TrainedOn, list[Row]], int]:
    """Return the examples by what they train, and the number of answers that were too long."""
    limit = within_context(base.model, section.max_tokens)
    rows: dict[TrainedOn, list[Row]] = {form: [] for form in verdict_forms(judge)}
    if "direct" in rows:
        rows["verdict"] = []
    dropped = 0
    for row, form in product(labelled, verdict_forms(judge)):
        if form == "reason" and row.reasoning is None:
            raise DataError(
                f"judge.cold_start.data: {row.source} has rows without `reasoning`, which the cold "
                "start trains on; add the column, set judge.verdict: direct, or remove "
                "judge.cold_start"
            )
        prompt = judge_prompt(CodeToJudge(row.code, row.language, row.cwe), judge, form)
        answer = judge_answer(row.is_vulnerable, row.reasoning if form == "reason" else None)
        whole: Row = {**example(base.tokenizer, prompt, answer), "source": row.source}
        if len(whole["input_ids"]) > limit:
            dropped += 1
            continue
        rows[form].append(whole)
        if form == "direct":
            other = judge_answer(not row.is_vulnerable)
            deciding = deciding_example(base.tokenizer, prompt, answer, other)
            rows["verdict"].append({**deciding, "source": row.source})
    if empty := [form for form in rows if not rows[form]]:
        raise DataError(
            f"judge.cold_start.max_tokens: none of {len(labelled)} {empty[0]} answers fits into "
            f"{limit} tokens together with its prompt; raise it, up to the model's context"
        )
    return rows, dropped


def align(
    recipe: Recipe, folder: RunFolder, base: Base, progress: Progress = no_progress
) -> dict[str, Json]:
    """Train the judge further by GRPO on labels; return the summary to record."""
    judge = recipe.judge
    assert judge is not None and judge.align is not None
    section = judge.align
    detach_adapters(base)
    start = folder.path / "judge" / "cold_start"
    if start.is_dir():
        attach_adapter(base, start, "trained", trainable=True)
    rows, dropped = _align_rows(in_split(load_labelled(section.data), "train"), recipe, base)
    clock = PhaseClock()
    reward = LabelReward(clock)
    checkpoints = folder.checkpoints("judge/align")
    recorder = StepRecorder("align", folder, progress, clock, reward.step_values)
    config = grpo_config(recipe, section, checkpoints)
    trainer = make_grpo_trainer(base, recipe, config, rows, reward, recorder)
    prepare_generation(base, clock)
    train(trainer, checkpoints)
    save_adapter(base.model, "trained", folder.path / "judge" / "align")
    detach_adapters(base)
    summary = {"examples": len(rows), "too_long": dropped}
    return summary | _finish(recipe, folder, base, "align", progress)


def _align_rows(
    labelled: Sequence[LabelledCode], recipe: Recipe, base: Base
) -> tuple[list[Row], int]:
    """Return the rows to ask about, and the number that were too long."""
    judge = recipe.judge
    assert judge is not None and judge.align is not None
    limit = rollout_prompt_limit(
        base.model,
        recipe.model.max_prompt_tokens,
        judge.align.max_completion_tokens,
        "judge.align.max_completion_tokens",
    )
    rows: list[Row] = []
    dropped = 0
    for row, form in product(labelled, verdict_forms(judge)):
        prompt = judge_prompt(CodeToJudge(row.code, row.language, row.cwe), judge, form)
        if len(prompt_ids(base.tokenizer, [prompt])[0]) > limit:
            dropped += 1
            continue
        message = [{"role": "user", "content": prompt}]
        rows.append(
            {
                "prompt": message,
                "is_vulnerable": row.is_vulnerable,
                "form": form,
                "source": row.source,
            }
        )
    if not rows:
        raise DataError(
            f"judge.align.data: none of {dropped} prompts fits into {limit} tokens, the least of "
            "model.max_prompt_tokens and what judge.align.max_completion_tokens leaves of the "
            "model's context; change one of them, or lower judge.max_code_chars"
        )
    return rows, dropped


def _finish(
    recipe: Recipe, folder: RunFolder, base: Base, stage: JudgeStage, progress: Progress
) -> dict[str, Json]:
    """Calibrate and measure the judge after its last stage, and make its adapter the run's judge.

    Its verdict mode and unsure band are stored in the adapter's folder. Returns the accuracy on
    each held-out split of its data, and the calibration.
    """
    assert recipe.judge is not None
    if stage != last_stage(recipe.judge) or not is_first_process():
        return {}
    adapter = folder.path / "judge" / stage
    detach_adapters(base)
    attach_adapter(base, adapter, "judge")
    rows = load_labelled(section_of(recipe.judge, stage).data)
    calibration: dict[str, Json] = {}
    if recipe.judge.verdict == "cascade":
        note(progress, stage, "calibrating the judge on validation code")
        calibration = _calibrate(Judge.on(base, recipe.judge), in_split(rows, "validation"))
    settings = recipe.judge.model_dump(
        include={"verdict", "max_new_tokens", "strip_comments", "max_code_chars"}
    )
    folder.write_json(f"judge/{stage}/{SETTINGS_FILE}", settings | calibration)
    judge = Judge.on(base, recipe.judge, unsure=unsure_band(adapter))
    note(progress, stage, "measuring the judge on held-out code")
    accuracy = {
        split: judge_accuracy(judge, held_out)
        for split in HELD_OUT_SPLITS
        if (held_out := [row for row in rows if row.extra.get("split") == split])
    }
    for split, measured in accuracy.items():
        logger.info("judge: %s of %s code", describe_accuracy(measured), split.replace("_", "-"))
    detach_adapters(base)
    _replace_folder(adapter, folder.judge_adapter)
    return {"held_out": accuracy, **calibration}


def _replace_folder(source: Path, target: Path) -> None:
    """Copy an adapter without its checkpoints; a killed run leaves no half copy in its place."""
    copy = target.with_name(f".{target.name}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("checkpoints"))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(copy, target)


def _calibrate(judge: Judge, labelled: Sequence[LabelledCode]) -> dict[str, Json]:
    """Judge validation code in both modes and find the band in which reasoning pays off.

    Raises:
        ModelError: the judge has no probability for any of it.
    """
    items = [CodeToJudge(row.code, row.language, row.cwe) for row in labelled]
    truth = [row.is_vulnerable for row in labelled]
    direct, reasoned = judge.direct(items), judge.reasoned(items)
    known = [at for at, verdict in enumerate(direct) if verdict.p_vulnerable is not None]
    if not known:
        raise ModelError(
            "judge.verdict: cascade cannot be calibrated, because the judge gives no probability "
            f"for any of {len(items)} samples of validation code ({direct[0].error}); train it "
            "again"
        )
    direct, reasoned = [direct[at] for at in known], [reasoned[at] for at in known]
    truth = [truth[at] for at in known]
    probabilities = [verdict.p_vulnerable or 0.0 for verdict in direct]
    second = [after_reasoning(*pair) for pair in zip(direct, reasoned, strict=True)]
    direct_right, reasoned_right, second_right = (
        [verdict.is_right(t) for verdict, t in zip(verdicts, truth, strict=True)]
        for verdicts in (direct, reasoned, second)
    )
    return {
        "unsure": list(calibrated_band(probabilities, second_right, direct_right)),
        "validation": {
            "n": len(known),
            "direct_accuracy": sum(direct_right) / len(known),
            "reason_accuracy": sum(reasoned_right) / len(known),
        },
    }
