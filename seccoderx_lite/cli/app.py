"""The commands `train` to `synth`, and `main`, which turns every error into one message."""

import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from seccoderx_lite.cli.audit import audit_app
from seccoderx_lite.cli.endings import (
    describe_os_error,
    ended_with_another,
    forgive_closed_pipe,
    keep_traceback,
    require_working_folder,
    resume_command,
    shortened,
)
from seccoderx_lite.cli.eval import eval_app
from seccoderx_lite.cli.logs import set_up_logging
from seccoderx_lite.cli.machine_commands import machine_app
from seccoderx_lite.cli.options import (
    ApiKeyEnv,
    Fresh,
    JudgeOverrides,
    Overrides,
    RecipeFile,
    RunFolderOption,
    VerdictMode,
    judge_settings,
)
from seccoderx_lite.cli.progress_bar import ProgressBar, print_results
from seccoderx_lite.cli.recipe_commands import recipe_app
from seccoderx_lite.core.errors import DataError, RecipeError, RunInterrupted, SeccoderxError
from seccoderx_lite.run.progress import note
from seccoderx_lite.run.stopping import end_at_once, on_signals

app = typer.Typer(
    name="seccoderx-lite",
    help="Train a code model to write secure code that still works, on one GPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(eval_app, name="eval")
app.add_typer(recipe_app)
app.add_typer(machine_app)
app.add_typer(audit_app)

_debug = False
_is_scan = False
"""Whether the command is `scan`, whose exit code 1 means findings."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"seccoderx-lite {version('seccoderx-lite')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only warnings and results.")
    ] = False,
) -> None:
    global _debug, _is_scan
    _debug = debug
    _is_scan = context.invoked_subcommand == "scan"
    set_up_logging(quiet)


@app.command()
def train(
    recipe: RecipeFile,
    override: Overrides = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="Run only this stage: cold_start, align, warm_start, policy, evaluate, export or "
            "report; repeatable. If all those named are finished, they run again, and later "
            "stages next time."
        ),
    ] = None,
    run_folder: RunFolderOption = None,
    fresh: Fresh = False,
) -> None:
    """Train judge and policy, then evaluate, export and report, as the recipe says.

    Finished stages are skipped. If the run is interrupted, the same command resumes it from the
    last checkpoint. Ctrl-C ends it after the current step and saves a checkpoint; a second Ctrl-C
    ends it at once. To train a finished run further, raise its steps: -o policy.grpo.steps=100.
    """
    from seccoderx_lite.models.backends import use_backend
    from seccoderx_lite.recipe.recipe import load_recipe

    loaded = load_recipe(recipe, override or [])
    with ProgressBar() as progress:
        note(progress, "start", "loading the libraries")
        use_backend(loaded.model)  # before anything below imports torch
        from seccoderx_lite.models.distributed import is_first_process
        from seccoderx_lite.stages.pipeline import train as run

        folder = run(loaded, run_folder, stages=stage or [], fresh=fresh, progress=progress)
    if is_first_process():
        print_results(folder)


@app.command()
def report(
    run_folders: Annotated[
        list[Path], typer.Argument(help="Run folders; several are compared on one page.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="File of the comparison page (default: comparison.html)."),
    ] = None,
) -> None:
    """Rewrite report.html of a run, or write one page that compares several runs."""
    from seccoderx_lite.run.folder import RunFolder
    from seccoderx_lite.stages import report as stage

    folders = [RunFolder.existing(folder) for folder in run_folders]
    if len(folders) == 1 and output is None:
        typer.echo(stage.run(folders[0]))
    else:
        typer.echo(stage.write_comparison(folders, output or Path("comparison.html")))


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(help="Run folder, for example runs/tiny.")],
    format: Annotated[
        list[str] | None,
        typer.Option(
            help="adapter, merged, gguf, gguf-q8_0 or gguf-q4_k_m; repeatable (default: adapter)."
        ),
    ] = None,
    role: Annotated[str, typer.Option(help="policy or judge.")] = "policy",
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the exports (default: export/ in the run folder)."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Upload to this Hugging Face hub repository."),
    ] = None,
) -> None:
    """Export the policy or the judge of a run again, for example in another format.

    Every export is loaded again and compared with the trained adapter before it is delivered. Run
    `hf auth login` once before --push; a new repository is private.
    """
    from seccoderx_lite.cli.hub import push_folder, repository_for

    formats = format or ["adapter"]
    targets = {form: repository_for(push, form, formats) for form in formats} if push else {}
    with ProgressBar() as progress:
        note(progress, "export", "loading the libraries")
        from seccoderx_lite.stages.finished_run import export_again

        exports = export_again(run_folder, formats, role=role, to=output, progress=progress)
    for form, folder in exports.items():
        typer.echo(f"{form}: {folder}")
        if push:
            typer.echo(f"{form}: {push_folder(folder, targets[form])}")


@app.command()
def scan(
    paths: Annotated[list[Path], typer.Argument(help="Source files and folders.")],
    judge: Annotated[
        str,
        typer.Option(
            help="Run folder, adapter folder, or any other MODEL that `eval judge` accepts."
        ),
    ],
    cwe: Annotated[
        list[str] | None,
        typer.Option(
            help="Weakness to look for, for example CWE-89; repeatable (default: the typical "
            "ones of each language)."
        ),
    ] = None,
    format: Annotated[str, typer.Option(help="text, json or sarif.")] = "text",
    since: Annotated[
        str | None, typer.Option(help="Review only functions changed since this git reference.")
    ] = None,
    fail_on: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Exit with 1 if a finding has at least this probability (a verdict without a "
            "probability counts as 1.0). Use 2 to never fail.",
        ),
    ] = 0.5,
    output: Annotated[
        Path | None, typer.Option(help="File of the report (default: standard output).")
    ] = None,
    verdict: VerdictMode = None,
    api_key_env: ApiKeyEnv = None,
    override: JudgeOverrides = None,
) -> None:
    """Review source code with a judge, one function at a time.

    Exit codes: 0 no findings, 1 findings, 2 wrong usage, 3 the scan failed, or the judge did on
    some of the code.
    """
    from seccoderx_lite.cli.scan import run

    code = run(
        paths,
        judge,
        cwe=cwe or [],
        form=format,
        since=since,
        fail_on=fail_on,
        output=output,
        settings=judge_settings(override, verdict=verdict, api_key_env=api_key_env),
    )
    raise typer.Exit(code)


@app.command()
def synth(
    recipe: RecipeFile,
    override: Overrides = None,
    run_folder: RunFolderOption = None,
    fresh: Fresh = False,
) -> None:
    """Generate coding tasks that invite the weaknesses of given vulnerable code.

    Vulnerable code -> application scenarios -> tasks -> filter -> reference completions -> tests
    that are checked -> a data set for policy.tasks. For your own code, pass a file of JSON lines
    such as {"code": "...", "language": "python", "cwe": "CWE-89"} with -o seeds.data=FILE; SVEN and
    PrimeVul files are accepted as they are. The generator is a local model (generator.model) or an
    OpenAI-compatible server (generator.endpoint; limit the cost with generator.max_cost). If it is
    interrupted, the same command resumes it; no request is sent twice, even with --fresh.
    """
    from seccoderx_lite.recipe.recipe import load_as
    from seccoderx_lite.recipe.synth import SynthRecipe

    loaded = load_as(SynthRecipe, recipe, override or [])
    with ProgressBar() as progress:
        note(progress, "start", "loading the libraries")
        from seccoderx_lite.stages.synth import run

        dataset = run(loaded, run_folder, fresh=fresh, progress=progress)
    typer.echo(f"{dataset}: described in its README.md; to train on it: -o policy.tasks={dataset}")


def main() -> None:
    """Run the command line; every error becomes one message and an exit code."""
    forgive_closed_pipe()
    try:
        with on_signals(end_at_once):
            require_working_folder()
            app()
    except RunInterrupted as error:
        typer.echo(f"{error}\nto go on: {resume_command(sys.argv[1:])}", err=True)
        sys.exit(130)
    except RecipeError as error:
        _fail(error, 2)
    except DataError as error:
        _fail(error, 2 if _is_scan else 1)  # for example, a path that does not exist
    except SeccoderxError as error:
        _fail(error, 3 if _is_scan else 1)
    except SystemExit as end:
        if end.code == 130:
            typer.echo("interrupted", err=True)
        raise
    except Exception as error:
        if ended_with_another(error):
            text = "another process of this run has ended; its message says why"
            _fail(SeccoderxError(text), 1)
        if isinstance(error, OSError) and error.errno is not None:
            _fail(SeccoderxError(describe_os_error(error)), 3 if _is_scan else 1)
        if _debug:
            raise
        text = shortened(f"error: internal error: {type(error).__name__}: {error}")
        typer.echo(text, err=True)
        typer.echo(f"the traceback is in {keep_traceback(error)}", err=True)
        sys.exit(3 if _is_scan else 1)


def _fail(error: Exception, code: int) -> None:
    if _debug:
        traceback.print_exc()
    typer.echo(shortened(f"error: {error}"), err=True)
    sys.exit(code)
