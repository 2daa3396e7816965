"""Which audit was made of a recipe, as `audit.json` of its run folder says."""

import hashlib
import json

from seccoderx_lite.core.errors import RunFolderError
from seccoderx_lite.core.records import Json
from seccoderx_lite.recipe.recipe import Recipe
from seccoderx_lite.run.folder import AUDIT, RunFolder


def audited_part(recipe: Recipe) -> str:
    """Return a digest of what an audit is about: the tasks, the reward, the judge, the sandbox."""
    document = recipe.model_dump(mode="json")
    policy = document["policy"] or {}
    part = [policy.get("tasks"), policy.get("reward"), document["judge"], document["sandbox"]]
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16]


def audit_line(recipe: Recipe, folder: RunFolder) -> str:
    """Return in one line whether the recipe was audited, and with what result."""
    record = _record(folder)
    if record is None or record.get("of") != audited_part(recipe):
        return (
            "this recipe was not audited: `seccoderx-lite audit RECIPE` tests its reward, judge "
            "and tasks with known bad answers, without training"
        )
    if record["holes"]:
        return f"the audit found bad answers that earn as much as honest code: {record['holes']}"
    if unscored := record.get("unscored"):
        return f"the audit could not score these bad answers: {unscored}; repeat it"
    with_judge = "" if record["judge"] else ", without the trained judge"
    return f"the audit found no bad answer that earns as much as honest code{with_judge}"


def _record(folder: RunFolder) -> dict[str, Json] | None:
    try:
        data: dict[str, Json] = folder.read_json(AUDIT)
    except RunFolderError:
        return None
    return data if isinstance(data, dict) else None
