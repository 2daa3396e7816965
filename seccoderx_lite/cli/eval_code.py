"""`eval code`: make a recipe that only evaluates from a model and a few options.

An evaluation is therefore a run like any other: resumable and locked, with answers, metrics and a
report in its folder.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seccoderx_lite.core.errors import DataError, ModelError, RecipeError
from seccoderx_lite.core.scores import Evaluation
from seccoderx_lite.evaluation.suites.answers import ANSWERS
from seccoderx_lite.evaluation.suites.checking import SolutionCheck, check_tests
from seccoderx_lite.evaluation.suites.cweval_grading import CwevalGrader
from seccoderx_lite.evaluation.suites.cweval_packages import shown_folders
from seccoderx_lite.evaluation.suites.loading import load_suite
from seccoderx_lite.recipe.recipe import Recipe, check_recipe, with_overrides, with_paths_from
from seccoderx_lite.run.files import read_jsonl, read_record
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.run.open_sandbox import open_sandbox

logger = logging.getLogger(__name__)

NOTE_CHARS = 400
"""Longest reason that is printed for a solution or an answer."""
NAMED = 3
"""So many tasks are named per reason; the others are counted."""


def evaluation_recipe(
    model: str,
    settings: Mapping[str, Any],
    *,
    adapter: Path | None = None,
    server_model: str | None = None,
    api_key_env: str | None = None,
    quantization: str = "nf4",
    judge: str | None = None,
    overrides: Sequence[str] = (),
) -> Recipe:
    """Return the recipe that measures one model.

    Args:
        model: hub id, folder of a model, run folder (its policy is measured), `builtin:tiny`, or
            the URL of an OpenAI-compatible server.
        settings: fields of the recipe's section `evaluate`.
        adapter: policy adapter for the model.
        server_model: name of the model on the server.
        api_key_env: environment variable with the server's key.
        quantization: nf4 or none.
        judge: model or `URL#MODEL` that scores function in CyberSecEval.
        overrides: `a.b=value` overrides of the recipe.

    Raises:
        RecipeError: the options contradict each other.
    """
    evaluate: dict[str, Any] = dict(settings)
    base, source = {"base": model, "quantization": quantization}, model
    if _is_url(model):
        if not server_model:
            raise RecipeError("--server-model: is required when MODEL is a server URL")
        evaluate["endpoint"] = _endpoint(model, server_model, api_key_env)
        base["base"] = source = server_model
    elif (Path(model) / "recipe.yaml").is_file():
        run = RunFolder.existing(model)
        base = run.recipe.model.model_dump(mode="json")
        evaluate["adapter"] = str(adapter or run.policy_adapter)
    elif adapter:
        evaluate["adapter"] = str(adapter.resolve())
    if judge:
        own = judge == model and _is_url(judge)
        evaluate["functionality_judge"] = (
            {"endpoint": _endpoint(judge, server_model if own else None, api_key_env)}
            if _is_url(judge)
            else {"base": judge}
        )
    name = "eval-" + "".join(c if c.isalnum() else "-" for c in Path(source).name or source)
    document = {"name": name, "model": base, "evaluate": evaluate}
    document = with_overrides(with_paths_from(Path.cwd(), document), overrides)
    return check_recipe(document, "eval code")


def _is_url(model: str) -> bool:
    return model.startswith(("http://", "https://"))


def _endpoint(url: str, model: str | None, api_key_env: str | None) -> dict[str, Any]:
    if "#" in url:
        url, model = url.split("#", 1)
    if not model:
        raise RecipeError(f"--judge: a server URL needs the name of the model: {url}#NAME")
    return {"url": url, "model": model, "api_key_env": api_key_env}


def require_scores(folder: Path) -> None:
    """Check that an evaluation measured something, and say what to do about missing answers.

    Raises:
        ModelError: nothing could be scored.
    """
    evaluation = read_record(folder / "evaluation.json", Evaluation)
    missing = evaluation.unanswered
    advice = (
        f"{missing} requests got no answer: see the warnings above, correct what they name "
        "(-o evaluate.endpoint.request sets fields of a request; it needs --fresh) and repeat the "
        "command, which asks again"
        if missing
        else "see statuses in evaluation.json"
    )
    if not evaluation.has_scores:
        raise ModelError(f"{folder}: nothing could be scored; {advice}")
    if missing:
        logger.warning("%s", advice)


def why_unscored(folder: Path) -> list[str]:
    """Return a line per reason why answers are unscored, with the tasks it concerns."""
    tasks: dict[str, dict[str, None]] = {}
    for row in read_jsonl(folder / ANSWERS):
        if row["status"] == "unscored":
            reason = " ".join(str(row.get("output") or "unknown reason").split())
            tasks.setdefault(reason[:NOTE_CHARS], {})[row["task"]] = None
    lines = []
    for reason, names in tasks.items():
        shown = ", ".join(list(names)[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"unscored: {shown}{more}: {reason}")
    return lines


def check_suites(sources: Sequence[str], overrides: Sequence[str] = ()) -> list[SolutionCheck]:
    """Return the grades of the suites' own solutions on this machine.

    `overrides` are those of a recipe, for example of its sandbox.

    Raises:
        DataError: no suite has solutions to check.
    """
    suites = [suite for source in sources for suite in load_suite(source)]
    suites = [suite for suite in suites if suite.kind in ("tests", "completion", "cweval")]
    if not suites:
        raise DataError(
            f"--check: {', '.join(sources)} has no solutions of its own; name cweval:CHECKOUT or "
            "a suite with tests and references"
        )
    recipe = evaluation_recipe("builtin:tiny", {"suites": list(sources)}, overrides=overrides)
    with open_sandbox(recipe.sandbox, shown_folders(sources)) as sandbox:
        cweval = CwevalGrader(sandbox)
        return [
            check
            for suite in suites
            for check in (
                cweval.check(suite.tasks)
                if suite.kind == "cweval"
                else check_tests(sandbox, suite.tasks)
            )
        ]
