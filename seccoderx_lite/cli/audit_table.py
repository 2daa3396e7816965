"""The audit's table, for `audit`."""

from collections.abc import Iterator
from pathlib import Path

from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.recipe.shipped import shipped_recipes
from seccoderx_lite.rewards.audit import AS_MUCH, Played
from seccoderx_lite.stages.audit import AuditReport

NAMED = 5
"""So many task ids are printed per fault."""


def is_recipe(target: str) -> bool:
    """Whether an argument names a recipe, and not a file of tasks.

    Raises:
        RecipeError: it names neither.
    """
    path = Path(target)
    if path.suffix in (".yaml", ".yml") or target in shipped_recipes():
        return True
    is_source = target.startswith("builtin:") or path.exists() or "/" in target
    if not is_source:
        raise RecipeError(
            f"{target}: is neither a recipe (a YAML file, or a name that `recipes` lists) nor a "
            "source of tasks (a file, builtin:tiny or a hub id)"
        )
    return False


def lines(report: AuditReport) -> Iterator[str]:
    """Yield the lines of the table, and below it what is wrong with tasks."""
    audit = report.audit
    yield f"{audit.n_tasks} tasks of {report.source}; judge: {report.judge}"
    if audit.without_reference:
        yield f"{audit.without_reference} of them have no reference and are not compared"
    yield ""
    yield f"{'bad answer':<31} {'tasks':>5} {'earns':>7} {'at most':>8} {'honest':>7}  verdict"
    yield from (_row(played) for played in audit.attacks)
    yield ""
    for fault, ids in audit.faults.items():
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        yield f"{len(ids)} of {audit.n_tasks} tasks: {fault}: {', '.join(ids[:NAMED])}{more}"
    if failed := audit.failed_runs:
        yield f"tests: {failed} of {audit.test_runs} runs unscored, because the sandbox failed"
    elif not audit.test_runs:
        yield "tests: none were run"
    elif not audit.faults:
        yield "tests: every reference passes, and neither empty functions nor insecure twins do"
    yield _conclusion(report)


def _row(played: Played) -> str:
    if played.earned is None or played.honest is None:
        reason = played.not_played or f"unscored: {played.unscored} of {played.unscored}"
        return f"{played.name:<31} {played.n:>5} {'-':>7} {'-':>8} {'-':>7}  {reason}"
    return (
        f"{played.name:<31} {played.n:>5} {played.earned:>7.2f} {played.most or 0.0:>8.2f} "
        f"{played.honest:>7.2f}  {_verdict(played)}"
    )


def _verdict(played: Played) -> str:
    unscored = f", {played.unscored} unscored" if played.unscored else ""
    if played.is_hole:
        shown = ", ".join(played.as_much[:NAMED])
        return f"HOLE on {len(played.as_much)} tasks, such as {shown}{unscored}"
    if played.is_too_much:
        return f"more than it should{unscored}"
    few = f", as much as honest code on {len(played.as_much)} tasks" if played.as_much else ""
    few += f" (on {len(played.fooled)} because of its dress)" if played.fooled else ""
    return f"ok{few}{unscored}"


def _conclusion(report: AuditReport) -> str:
    if report.audit.is_sound:
        return "no bad answer earns as much as honest code"
    if not report.audit.holes:
        names = ", ".join(played.name for played in report.audit.unscored)
        return (
            f"unscored: {names}: nothing is known of them; see that the judge answers and that the "
            "sandbox works (`seccoderx-lite doctor`), and repeat the audit"
        )
    names = ", ".join(played.name for played in report.audit.holes)
    return (
        f"holes: {names}: at least {AS_MUCH:.0%} of the honest reward; change the reward, the "
        "judge or the tests"
    )
