"""Reward known bad answers with a recipe's own reward, judge, sandbox and tasks, without training.

For a plain file of tasks the reward is `guarded` with functional and security tests, no judge.
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import DataError, RecipeError
from seccoderx_lite.core.records import Task
from seccoderx_lite.data.loading import load_tasks, training_tasks
from seccoderx_lite.judge.judge import Judge
from seccoderx_lite.judge.run_judge import judge_of
from seccoderx_lite.models.adapter_files import CONFIG_FILE
from seccoderx_lite.models.adapters import attach_adapter
from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.recipe import Recipe, RewardRecipe, SandboxRecipe
from seccoderx_lite.rewards.audit import Audit, BelievingJudge, audit
from seccoderx_lite.rewards.codebleu import require_codebleu
from seccoderx_lite.rewards.scorer import Scorer
from seccoderx_lite.rewards.terms import loaded_terms
from seccoderx_lite.run.audit_record import audited_part
from seccoderx_lite.run.files import write_json
from seccoderx_lite.run.folder import AUDIT, RunFolder, default_run_folder
from seccoderx_lite.run.open_sandbox import open_sandbox
from seccoderx_lite.run.progress import Progress, no_progress, note
from seccoderx_lite.sandbox.planning import has_security_tests

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """An audit, and what it was made with."""

    source: str
    """The tasks."""
    audit: Audit
    judge: str
    """Which judge answered, in words."""
    has_judge: bool = False
    """Whether a real judge answered, or none is rewarded."""

    def as_json(self) -> dict[str, Any]:
        """Return what `--output` writes."""
        attacks = [{**asdict(played), "is_hole": played.is_hole} for played in self.audit.attacks]
        return {
            "tasks": self.source,
            "n_tasks": self.audit.n_tasks,
            "judge": self.has_judge,
            "holes": [played.name for played in self.audit.holes],
            "unscored": [played.name for played in self.audit.unscored],
            "attacks": attacks,
            "faults": {name: list(ids) for name, ids in self.audit.faults.items()},
        }


def run(
    recipe: Recipe,
    run_folder: Path | None = None,
    *,
    count: int,
    progress: Progress = no_progress,
) -> AuditReport:
    """Audit the reward of a recipe; the result is kept in its run folder.

    The judge is that of the run folder, an adapter or a server. If it is not trained yet, one that
    calls everything safe takes its place, so that attacks earn the most that they could.

    Raises:
        RecipeError: the recipe trains no policy.
    """
    policy = recipe.policy
    if policy is None:
        raise RecipeError(f"{recipe.name}: has no policy section, so there is no reward to audit")
    loaded_terms(policy.reward.terms)
    if policy.reward.formula == "seccoderx":
        require_codebleu()
    path = run_folder or default_run_folder(recipe)
    tasks = training_tasks(policy.tasks)
    if policy.reward.formula == "seccoderx":
        tasks = [task for task in tasks if task.cwe]
    judge, about, is_real = _judge(recipe, RunFolder.following(path, recipe), progress)
    with open_sandbox(recipe.sandbox) as sandbox:
        scorer = Scorer(policy.reward, judge, sandbox)
        found = _audit(_drawn(tasks, count, recipe.seed), scorer, progress, believes=not is_real)
    report = AuditReport(policy.sources, found, about, is_real)
    _keep(report, recipe, path)
    return report


def run_on_tasks(
    source: str, *, count: int, sandbox: SandboxRecipe, progress: Progress = no_progress
) -> AuditReport:
    """Audit a plain file of tasks with the reward `guarded` and all tests, without a judge."""
    reward = RewardRecipe(judge=False, security_tests=True)
    tasks = [_as_far_as_tested(task) for task in load_tasks(source)]
    with open_sandbox(sandbox) as opened:
        found = _audit(_drawn(tasks, count, 0), Scorer(reward, None, opened), progress)
    return AuditReport(source, found, "no judge: functional and security tests alone", True)


def _as_far_as_tested(task: Task) -> Task:
    """A task without security tests asks, without a judge, for function alone."""
    try:
        is_tested = bool(task.tests) and has_security_tests(task.tests or {}, task.language)
    except DataError:
        is_tested = False
    return task if is_tested else replace(task, cwe=())


def _drawn(tasks: Sequence[Task], count: int, seed: int) -> list[Task]:
    return random.Random(seed).sample(list(tasks), min(count, len(tasks)))


def _audit(
    tasks: Sequence[Task], scorer: Scorer, progress: Progress, *, believes: bool = False
) -> Audit:
    def played(done: int, total: int) -> None:
        progress("audit", done, total, {})

    return audit(tasks, scorer, believes=believes, on_played=played)


def _judge(recipe: Recipe, folder: RunFolder, progress: Progress) -> tuple[Any, str, bool]:
    """Return the judge, what it is in words, and whether it is a real one or none is needed."""
    policy, judge = recipe.policy, recipe.judge
    assert policy is not None
    if judge is None or not policy.reward.judge:
        return None, "no judge: the reward does not use one", True
    if judge.endpoint:
        return Judge.at_endpoint(judge), f"the server {judge.endpoint.url}", True
    is_trained = (folder.judge_adapter / CONFIG_FILE).is_file()
    needs_training = judge.cold_start is not None or judge.align is not None
    if not is_trained and not judge.adapter and (needs_training or not judge.base):
        return BelievingJudge(), "not trained yet: every verdict is taken as safe", False
    note(progress, "audit", f"loading {judge.base or recipe.model.base}")
    base = load_base(recipe.model)
    found, adapter = judge_of(recipe, folder, base)
    if adapter:
        attach_adapter(base, adapter, "judge")
    return found, f"the judge in {adapter or judge.base}", True


def _keep(report: AuditReport, recipe: Recipe, path: Path) -> None:
    """Write audit.json into the run folder, which is made if need be."""
    record = {"of": audited_part(recipe), **report.as_json()}
    if not path.exists():
        with RunFolder.open(path, recipe) as folder:
            folder.write_json(AUDIT, record)
        return
    if (path / "recipe.yaml").is_file():
        write_json(path / AUDIT, record)  # without the lock: a run may be writing its own files
