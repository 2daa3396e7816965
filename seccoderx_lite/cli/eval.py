"""The commands `eval code` and `eval judge`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seccoderx_lite.cli.options import (
    ApiKeyEnv,
    EvaluateOverrides,
    Fresh,
    JudgeOverrides,
    VerdictMode,
    judge_settings,
)
from seccoderx_lite.cli.progress_bar import ProgressBar, print_results
from seccoderx_lite.cli.results_file import (
    check_output,
    write_code_results,
    write_judge_results,
)
from seccoderx_lite.core.errors import JudgeError, RecipeError
from seccoderx_lite.recipe.results import BENCHMARKS
from seccoderx_lite.run.progress import note

if TYPE_CHECKING:
    from seccoderx_lite.evaluation.suites.checking import SolutionCheck

eval_app = typer.Typer(
    help="Evaluate generated code or the verdicts of a judge.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

MODEL, SAMPLING = "Model", "Sampling"
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help="Also write the results to this file, in the JSON layout of lm-evaluation-harness.",
    ),
]


@eval_app.command("code")
def eval_code(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Hub id, model folder, run folder (its policy), builtin:tiny, or the URL of an "
            "OpenAI-compatible server. Omit it with --check.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="builtin:tiny, a file of tasks with tests, or BENCHMARK:PLACE: "
            f"{', '.join(BENCHMARKS)}; repeatable."
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Model, or URL#MODEL, that grades what tests cannot: function in CyberSecEval, "
            "SecCodePLT's rules (default: leave them out)."
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Grade the suites' own secure and insecure solutions instead of a model, to "
            "check this machine's setup.",
        ),
    ] = False,
    output: Output = None,
    override: EvaluateOverrides = None,
    run_folder: Annotated[
        Path | None, typer.Option(help="Run folder (default: runs/eval-<model>).")
    ] = None,
    fresh: Fresh = False,
    regrade: Annotated[
        bool,
        typer.Option(
            "--regrade",
            help="Grade the stored answers of MODEL, a run folder, again; generates nothing.",
        ),
    ] = False,
    adapter: Annotated[
        Path | None, typer.Option(help="LoRA adapter for MODEL.", rich_help_panel=MODEL)
    ] = None,
    base: Annotated[
        bool,
        typer.Option(
            "--base/--no-base",
            help="With an adapter, also evaluate the base model.",
            rich_help_panel=MODEL,
        ),
    ] = True,
    four_bit: Annotated[
        bool,
        typer.Option("--4bit/--16bit", help="Precision of MODEL.", rich_help_panel=MODEL),
    ] = True,
    server_model: Annotated[
        str | None, typer.Option(help="Name of the model on the server.", rich_help_panel=MODEL)
    ] = None,
    api_key_env: ApiKeyEnv = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Completions sampled per task.", rich_help_panel=SAMPLING)
    ] = 1,
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature.", rich_help_panel=SAMPLING)
    ] = 0.8,
    greedy: Annotated[
        bool,
        typer.Option(
            help="Also generate one greedy completion per task.", rich_help_panel=SAMPLING
        ),
    ] = True,
    max_completion_tokens: Annotated[
        int, typer.Option(min=1, help="Longest completion, in tokens.", rich_help_panel=SAMPLING)
    ] = 1024,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Completions per batch.", rich_help_panel=SAMPLING)
    ] = 16,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Evaluate at most N tasks per suite.", rich_help_panel=SAMPLING),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of sampling and of the bootstrap.", rich_help_panel=SAMPLING)
    ] = 0,
) -> None:
    """Measure how often a model's code works, is secure, and both (ESR).

    If it is interrupted, the same command resumes it. Differences come with 95% intervals; what
    could not be measured is counted as unscored.

    Example: seccoderx-lite eval code runs/tiny --suite builtin:tiny --samples 4
    """
    from seccoderx_lite.cli import eval_code as work

    check_output(output)
    if not suite and not regrade:
        raise RecipeError("--suite: is required, for example --suite builtin:tiny")
    if check:
        raise typer.Exit(_print_checks(work.check_suites(suite or [], override or ())))
    if model is None:
        raise RecipeError("MODEL: is required, for example runs/tiny")
    with ProgressBar() as progress:
        note(progress, "start", "loading the libraries")
        from seccoderx_lite.stages.finished_run import grade_again
        from seccoderx_lite.stages.pipeline import train

        if regrade:
            folder = grade_again(Path(model), progress)
        else:
            settings = {
                "suites": suite,
                "samples": samples,
                "temperature": temperature,
                "greedy": greedy,
                "max_completion_tokens": max_completion_tokens,
                "batch_size": batch_size,
                "limit": limit,
                "seed": seed,
                "measure_base": base,
            }
            recipe = work.evaluation_recipe(
                model,
                settings,
                adapter=adapter,
                server_model=server_model,
                api_key_env=api_key_env,
                judge=judge,
                quantization="nf4" if four_bit else "none",
                overrides=override or (),
            )
            folder = train(recipe, run_folder, fresh=fresh, progress=progress)
    print_results(folder)
    for line in work.why_unscored(folder):
        typer.echo(line)
    if output:
        for path in write_code_results(folder, output):
            typer.echo(path)
    work.require_scores(folder)


def _print_checks(checks: "Sequence[SolutionCheck]") -> int:
    """Print how the suites' own solutions were graded; return 1 if one has the wrong grade."""
    wrong = [check for check in checks if not check.is_right and check.is_measurable]
    missing = [check for check in checks if not check.is_measurable]
    for sort, named in (("WRONG", wrong), ("unscored", missing)):
        for check in named:
            note = " ".join(check.note.split())[:400]
            typer.echo(f"{sort}  {check.task} {check.side}: {note}")
    for side in dict.fromkeys(check.side for check in checks):
        own = [check for check in checks if check.side == side]
        typer.echo(f"{side}: {sum(c.is_right for c in own)} of {len(own)} as expected")
    right = len(checks) - len(wrong) - len(missing)
    typer.echo(f"{right} right, {len(wrong)} wrong, {len(missing)} unscored")
    return 1 if wrong else 0


@eval_app.command("judge")
def eval_judge(
    model: Annotated[
        str,
        typer.Argument(
            help="Run folder, adapter folder, hub id, builtin:tiny, URL#MODEL of an "
            "OpenAI-compatible server, bandit or semgrep."
        ),
    ],
    data: Annotated[str, typer.Option(help="Labelled code: file, folder, hub id or builtin:tiny.")],
    adapter: Annotated[Path | None, typer.Option(help="Judge adapter for MODEL.")] = None,
    verdict: VerdictMode = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Verdicts sampled per code sample; the majority counts.")
    ] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Evaluate on N random pairs or samples.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Compare with this judge, or with the run folder of its evaluation."),
    ] = None,
    output: Output = None,
    override: JudgeOverrides = None,
    run_folder: Annotated[
        Path | None, typer.Option(help="Run folder (default: runs/eval-judge-<judge>-<data>).")
    ] = None,
    api_key_env: ApiKeyEnv = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Code samples judged per batch.")
    ] = None,
) -> None:
    """Measure a judge on labelled code. If it is interrupted, the same command resumes it."""
    check_output(output)
    settings = judge_settings(
        override, verdict=verdict, api_key_env=api_key_env, batch_size=batch_size
    )
    with ProgressBar() as progress:
        note(progress, "judge", "loading the libraries")
        from seccoderx_lite.cli.eval_judge import evaluate_judge
        from seccoderx_lite.reporting.detection_text import render_evaluation

        folder, result = evaluate_judge(
            model,
            data,
            adapter=adapter,
            settings=settings,
            samples=samples,
            limit=limit,
            against=against,
            run_folder=run_folder,
            progress=progress,
        )
    typer.echo(render_evaluation(result))
    typer.echo(f"\n{folder / 'evaluation.json'}")
    if output:
        write_judge_results(result, output)
        typer.echo(output)
    if result.refusal:
        raise JudgeError(result.refusal)
    if not result.detection.n:
        raise JudgeError(
            f"{folder}: nothing could be scored; see the errors above, correct what they name and "
            "repeat the command"
        )
