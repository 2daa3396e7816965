"""The `eval` commands: thin ways into `eval_code` and `eval_judge`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seccoderx_lite.cli.progress_bar import ProgressBar, print_results
from seccoderx_lite.core.errors import RecipeError

if TYPE_CHECKING:
    from seccoderx_lite.evaluation.suites.cweval_grading import CwevalCheck

eval_app = typer.Typer(
    help="Measure a model: the code it writes, or its verdicts.", no_args_is_help=True
)

MODEL, SAMPLING, FOLDER = "Model", "Sampling", "Folder"
WHAT = "What is measured"


@eval_app.command("code")
def eval_code(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Hub id, folder of a model, run folder (its policy), builtin:tiny, or "
            "the address of an OpenAI-compatible server; none with --check.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="builtin:tiny, a file of tasks with tests, cweval:CHECKOUT or "
            "cyberseceval:FILE; may be given more than once.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Scores function in CyberSecEval: a model, or URL#NAME of a server; "
            "without it only security is measured there.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Grade CWEval's own references and insecure twins "
            "instead of a model, to prove the set-up.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    adapter: Annotated[
        Path | None, typer.Option(help="LoRA adapter on top of the model.", rich_help_panel=MODEL)
    ] = None,
    base: Annotated[
        bool,
        typer.Option(
            "--base/--no-base",
            help="Measure the bare base beside an adapter.",
            rich_help_panel=MODEL,
        ),
    ] = True,
    four_bit: Annotated[
        bool, typer.Option("--4bit/--16bit", help="How the model is loaded.", rich_help_panel=MODEL)
    ] = True,
    server_model: Annotated[
        str | None, typer.Option(help="Name by which a server knows MODEL.", rich_help_panel=MODEL)
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(help="Environment variable that holds a server's key.", rich_help_panel=MODEL),
    ] = None,
    n: Annotated[
        int,
        typer.Option(
            "--n", min=1, help="Completions sampled for a task.", rich_help_panel=SAMPLING
        ),
    ] = 1,
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature.", rich_help_panel=SAMPLING)
    ] = 0.8,
    greedy: Annotated[
        bool,
        typer.Option(
            help="One greedy completion a task beside the sampled ones.", rich_help_panel=SAMPLING
        ),
    ] = True,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Longest completion.", rich_help_panel=SAMPLING)
    ] = 1024,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Completions generated at once.", rich_help_panel=SAMPLING)
    ] = 16,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Most tasks of a suite.", rich_help_panel=SAMPLING)
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of sampling and of the bootstrap.", rich_help_panel=SAMPLING)
    ] = 0,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the evaluation; runs/eval-<model> without.", rich_help_panel=FOLDER
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Move an earlier evaluation aside and start anew.",
            rich_help_panel=FOLDER,
        ),
    ] = False,
    regrade: Annotated[
        bool,
        typer.Option(
            "--regrade",
            help="Grade the stored answers of MODEL, a run folder, anew; nothing is generated.",
            rich_help_panel=FOLDER,
        ),
    ] = False,
) -> None:
    """Measure how often a model's code works, is secure, and both (ESR).

    Finished answers are kept: the same command goes on where it was interrupted. Differences come
    with 95% intervals, and what could not be measured is counted as unscored.

    Example: seccoderx-lite eval code runs/tiny --suite builtin:tiny --n 4
    """
    from seccoderx_lite.cli import eval_code as work

    if not suite and not regrade:
        raise RecipeError("--suite: say what to measure, for example --suite builtin:tiny")
    if check:
        raise typer.Exit(_tell_checks(work.check_suites(suite or [])))
    if model is None:
        raise RecipeError("MODEL: say which model to measure, for example runs/tiny")
    from seccoderx_lite.stages import pipeline

    with ProgressBar() as progress:
        if regrade:
            folder = pipeline.grade_again(Path(model), progress)
        else:
            settings = {
                "suites": suite, "samples": n, "temperature": temperature, "greedy": greedy,
                "max_completion_tokens": max_tokens, "batch_size": batch_size, "limit": limit,
                "seed": seed, "measure_base": base,
            }  # fmt: skip
            recipe = work.evaluation_recipe(
                model, settings, adapter=adapter, server_model=server_model,
                api_key_env=api_key_env, judge=judge, quantization="nf4" if four_bit else "none",
            )  # fmt: skip
            folder = pipeline.train(recipe, to, fresh=fresh, progress=progress)
    print_results(folder)


def _tell_checks(checks: "Sequence[CwevalCheck]") -> int:
    """Show what CWEval's own solutions came out as; 1 if one is not what it should be."""
    wrong = [check for check in checks if not check.is_right and check.is_measurable]
    missing = [check for check in checks if not check.is_measurable]
    for sort, named in (("WRONG", wrong), ("unscored", missing)):
        for check in named:
            typer.echo(f"{sort}  {check.task} {check.side}: {check.note}")
    right = len(checks) - len(wrong) - len(missing)
    typer.echo(f"{right} as they should be, {len(wrong)} wrong, {len(missing)} unscored")
    return 1 if wrong else 0


@eval_app.command("judge")
def eval_judge(
    model: Annotated[
        str,
        typer.Argument(help="Run folder, adapter folder, hub id, builtin:tiny, URL#MODEL of an "
                       "OpenAI-compatible server, bandit or semgrep."),
    ],
    data: Annotated[str, typer.Option(help="Labelled code: file, folder, hub id, builtin:tiny.")],
    adapter: Annotated[
        Path | None, typer.Option(help="Judge adapter on top of the model.")
    ] = None,
    verdict: Annotated[
        str | None, typer.Option(help="How it answers; as it was trained to without.")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Answers a piece of code; the majority counts.")
    ] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many pairs or pieces, drawn at random.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Another judge, or the folder of its evaluation, to compare with."),
    ] = None,
    run_folder: Annotated[
        Path | None, typer.Option(help="Where answers are kept; under runs/ without.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the server's key.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pieces of code judged at once.")
    ] = None,
) -> None:  # fmt: skip
    """Measure a judge on labelled code; the same command goes on where it was interrupted."""
    from seccoderx_lite.cli.eval_judge import evaluate_judge
    from seccoderx_lite.reporting.detection_text import render_evaluation

    settings = {"verdict": verdict, "api_key_env": api_key_env, "batch_size": batch_size}
    with ProgressBar() as progress:
        folder, result = evaluate_judge(
            model, data, adapter=adapter, settings=settings, samples=samples, limit=limit,
            against=against, run_folder=run_folder, progress=progress,
        )  # fmt: skip
    typer.echo(render_evaluation(result))
    typer.echo(f"\n{folder / 'evaluation.json'}")
