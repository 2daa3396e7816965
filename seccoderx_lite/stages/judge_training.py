"""Train the judge: a supervised cold start on reasoned answers, then GRPO on the labels.

The reward of `align` is that of SecCoderX (`seccoder_rm.py`, compute_score_without_cwe):
0.9 x accuracy + 0.1 x format, accuracy in {0, 1}, format in {0, 0.2}. A verdict that cannot be
read is the judge's own failure here and scores accuracy 0.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import Json, LabelledCode
from seccoderx_lite.data.loading import in_split, load_labelled
from seccoderx_lite.judge.judge import (
    CodeToJudge,
    Judge,
    judge_accuracy,
    judge_prompt,
    verdict_forms,
)
from seccoderx_lite.judge.prompt import VerdictForm, judge_answer, parse_verdict
from seccoderx_lite.judge.unsure_band import (
    SETTINGS_FILE,
    after_reasoning,
    calibrated_band,
    unsure_band,
)
from seccoderx_lite.models.adapters import attach_adapter, detach_adapters, save_adapter
from seccoderx_lite.models.base import Base
from seccoderx_lite.models.generation import render_chat
from seccoderx_lite.recipe.recipe import ColdStartRecipe, JudgeRecipe, Recipe
from seccoderx_lite.rewards.label import label_reward
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.progress import Progress, no_progress
from seccoderx_lite.training.order import Row, in_turns
from seccoderx_lite.training.settings import grpo_config, sequences_a_step, sft_config
from seccoderx_lite.training.step_records import PhaseClock, StepRecorder
from seccoderx_lite.training.trainers import (
    make_grpo_trainer,
    make_sft_trainer,
    prepare_generation,
    train,
)

HELD_OUT_SPLITS = ("held_out", "transfer")

TURNS: tuple[VerdictForm, ...] = ("direct", "direct", "reason")
"""Which form of answer the steps of the cold start train, in turn.

The loss is a mean over tokens. A direct answer has one token that says anything; in one batch with
reasonings it would hardly be heard.
"""


def cold_start(
    recipe: Recipe, folder: RunFolder, base: Base, progress: Progress = no_progress
) -> dict[str, Json]:
    """Train a new judge adapter on labelled code with reasoning; return what to record.

    Raises:
        DataError: the data has no reasoning to learn from, or nothing short enough is left.
    """
    judge = recipe.judge
    assert judge is not None and judge.cold_start is not None
    section = judge.cold_start
    detach_adapters(base)
    labelled = in_split(load_labelled(section.data), "train")
    rows, dropped = _sft_rows(labelled, judge, section, base.tokenizer)
    checkpoints = folder.checkpoints("judge/cold_start")
    recorder = StepRecorder("cold_start", folder, progress, PhaseClock())
    config = sft_config(recipe, section, checkpoints)
    turns = [form for form in TURNS if form in rows]
    ordered = in_turns(rows, turns, config.max_steps, sequences_a_step(config), recipe.seed)
    trainer = make_sft_trainer(base, recipe, config, ordered, recorder)
    train(trainer, checkpoints)
    save_adapter(base.model, "trained", folder.path / "judge" / "cold_start")
    detach_adapters(base)
    return {"examples": sum(map(len, rows.values())), "too_long": dropped}


def _sft_rows(
    labelled: Sequence[LabelledCode],
    judge: JudgeRecipe,
    section: ColdStartRecipe,
    tokenizer: Any,
) -> tuple[dict[VerdictForm, list[Row]], int]:
    """Return the examples by form of answer, and how many were too long."""
    rows: dict[VerdictForm, list[Row]] = {form: [] for form in verdict_forms(judge)}
    dropped = 0
    for row, form in product(labelled, verdict_forms(judge)):
        if form == "reason" and row.reasoning is None:
            raise DataError(
                f"judge.cold_start.data: {section.data} has code without `reasoning`; the cold "
                "start learns to reason from it, so add the column, set judge.verdict: direct, or "
                "leave judge.cold_start out"
            )
        prompt = judge_prompt(CodeToJudge(row.code, row.language, row.cwe), judge, form)
        answer = judge_answer(row.is_vulnerable, row.reasoning if form == "reason" else None)
        length = len(tokenizer(render_chat(tokenizer, prompt) + answer)["input_ids"])
        if length > section.max_tokens:
            dropped += 1
            continue
        rows[form].append(
            {
                "prompt": [{"role": "user", "content": prompt}],
                "completion": [{"role": "assistant", "content": answer}],
            }
        )
    if empty := [form for form in rows if not rows[form]]:
        raise DataError(
            f"judge.cold_start.max_tokens: none of {len(labelled)} {empty[0]} answers fits into "
            f"{section.max_tokens} tokens with its prompt; raise it"
        )
    return rows, dropped


class LabelReward:
    """The reward callable of `align`; a callable object, so that it stays picklable."""

    __name__ = "label"

    def __init__(self, clock: PhaseClock) -> None:
        self._clock = clock
        self._step: dict[str, float] = {}

    def __call__(
        self,
        completions: list[Any],
        is_vulnerable: list[bool],
        form: list[VerdictForm],
        completion_ids: list[list[int]],
        log_metric: Callable[[str, float], None],
        **columns: Any,
    ) -> list[float | None]:
        """Return 0.9 x accuracy + 0.1 x format of each answer."""
        self._clock.lap("reference")
        texts = [completion[0]["content"] for completion in completions]
        parts = [label_reward(*row) for row in zip(texts, is_vulnerable, form, strict=True)]
        self._step = {
            "accuracy": sum(part["accuracy"] for part in parts) / len(parts),
            "format": sum(part["format"] for part in parts) / len(parts),
            "unclear_share": sum(parse_verdict(text) == "unclear" for text in texts) / len(texts),
            "completion_tokens": sum(map(len, completion_ids)),
        }
        for name, value in self._step.items():
            log_metric(name, value)
        self._clock.lap("reward")
        return [part["reward"] for part in parts]

    def step_values(self, step: int) -> Mapping[str, Json]:
        """Return what the last batch adds to the step's record."""
        return self._step


def align(
    recipe: Recipe, folder: RunFolder, base: Base, progress: Progress = no_progress
) -> dict[str, Json]:
    """Train the cold-started judge by GRPO on labels; return what to record."""
    judge = recipe.judge
    assert judge is not None and judge.align is not None
    section = judge.align
    detach_adapters(base)
    start = folder.path / "judge" / "cold_start"
    if start.is_dir():
        attach_adapter(base, start, "trained", trainable=True)
    rows = _align_rows(in_split(load_labelled(section.data), "train"), judge)
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
    return {"examples": len(rows)}


def _align_rows(labelled: Sequence[LabelledCode], judge: JudgeRecipe) -> list[Row]:
    rows: list[Row] = []
    for row, form in product(labelled, verdict_forms(judge)):
        prompt = judge_prompt(CodeToJudge(row.code, row.language, row.cwe), judge, form)
        message = [{"role": "user", "content": prompt}]
        rows.append({"prompt": message, "is_vulnerable": row.is_vulnerable, "form": form})
    return rows


def finish(recipe: Recipe, folder: RunFolder, base: Base, stage: str, data: str) -> dict[str, Json]:
    """Calibrate and measure the judge a stage has trained; say beside its adapter how to ask it.

    Returns the accuracy by held-out split of its data, and what calibration found.
    """
    assert recipe.judge is not None
    adapter = folder.path / "judge" / stage
    detach_adapters(base)
    attach_adapter(base, adapter, "judge")
    rows = load_labelled(data)
    calibration: dict[str, Json] = {}
    if recipe.judge.verdict == "cascade":
        calibration = _calibrate(Judge.on(base, recipe.judge), in_split(rows, "validation"))
    settings = recipe.judge.model_dump(
        include={"verdict", "max_new_tokens", "strip_comments", "max_code_chars"}
    )
    folder.write_json(f"judge/{stage}/{SETTINGS_FILE}", settings | calibration)
    judge = Judge.on(base, recipe.judge, unsure=unsure_band(adapter))
    accuracy = {
        split: judge_accuracy(judge, held_out)
        for split in HELD_OUT_SPLITS
        if (held_out := [row for row in rows if row.extra.get("split") == split])
    }
    detach_adapters(base)
    return {"held_out": accuracy, **calibration}


def _calibrate(judge: Judge, labelled: Sequence[LabelledCode]) -> dict[str, Json]:
    """Ask both ways about validation code and find the band in which reasoning pays."""
    items = [CodeToJudge(row.code, row.language, row.cwe) for row in labelled]
    truth = [row.is_vulnerable for row in labelled]
    direct, reasoned = judge.direct(items), judge.reasoned(items)
    probabilities = [verdict.p_vulnerable or 0.0 for verdict in direct]
    second = [after_reasoning(*pair) for pair in zip(direct, reasoned, strict=True)]
    direct_right, reasoned_right, second_right = (
        [verdict.is_right(t) for verdict, t in zip(verdicts, truth, strict=True)]
        for verdicts in (direct, reasoned, second)
    )
    return {
        "unsure": list(calibrated_band(probabilities, second_right, direct_right)),
        "validation": {
            "n": len(items),
            "direct_accuracy": sum(direct_right) / len(items),
            "reason_accuracy": sum(reasoned_right) / len(items),
        },
    }
