"""The command line: thin commands over the functions a notebook calls."""

import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from seccoderx_lite.cli.eval import eval_app
from seccoderx_lite.cli.progress_bar import Progress, tell_results
from seccoderx_lite.core.errors import RecipeError, SeccoderxError

app = typer.Typer(
    name="seccoderx-lite",
    help="Teach a code model to write secure code that still works, on one GPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(eval_app, name="eval")

_debug = False


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback when something fails.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show warnings and results only.")] = False,
) -> None:
    global _debug
    _debug = debug
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    # On a CPU it says at every start that an optional faster kernel is not installed.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    logging.getLogger("seccoderx_lite").setLevel(logging.WARNING if quiet else logging.INFO)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, for example recipes/tiny.yaml.")],
    override: Annotated[
        list[str] | None, typer.Option("-o", help="Change one setting: policy.grpo.steps=50.")
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="Run only this stage, again if it was finished: cold_start, align, "
                     "policy, evaluate, export, report. Later ones then run anew next time."),
    ] = None,
    run_folder: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/<name> without.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Move an earlier run aside and start anew.")
    ] = False,
) -> None:  # fmt: skip
    """Run a recipe: judge, policy, evaluation, export and report.

    Finished stages are skipped; an interrupted run goes on from its last checkpoint when the same
    command is given again.
    """
    from seccoderx_lite.models.backends import use_backend
    from seccoderx_lite.recipe.recipe import load_recipe

    loaded = load_recipe(recipe, override or [])
    use_backend(loaded.model)  # before anything below imports torch
    from seccoderx_lite.models.distributed import is_first_process
    from seccoderx_lite.stages.pipeline import train as run

    with Progress(is_first_process()) as progress:
        folder = run(loaded, run_folder, stages=stage or [], fresh=fresh, progress=progress)
    if is_first_process():
        tell_results(folder)


@app.command()
def report(
    run_folders: Annotated[
        list[Path], typer.Argument(help="Folders of runs; several are compared on one page.")
    ],
    to: Annotated[
        Path | None, typer.Option(help="File of the page that compares; comparison.html without.")
    ] = None,
) -> None:
    """Write report.html again from the files of a run, or one page that compares several."""
    from seccoderx_lite.run.folder import RunFolder
    from seccoderx_lite.stages import report as stage

    folders = [RunFolder.existing(folder) for folder in run_folders]
    if len(folders) == 1 and to is None:
        typer.echo(stage.run(folders[0]))
    else:
        typer.echo(stage.write_comparison(folders, to or Path("comparison.html")))


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run, for example runs/tiny.")],
    format: Annotated[
        list[str] | None, typer.Option(help="adapter, merged or gguf; may be given again.")
    ] = None,
    role: Annotated[str, typer.Option(help="policy or judge.")] = "policy",
    to: Annotated[
        Path | None, typer.Option(help="Folder for the exports; the run's export/ without.")
    ] = None,
    push: Annotated[
        str | None, typer.Option(help="Also upload to this repository of the hub: ORG/NAME.")
    ] = None,
) -> None:
    """Export the policy or the judge of a run again, to any folder or to the Hugging Face hub.

    Every export is loaded again and compared with what was trained before it is handed over. Log
    in once with `hf auth login` before --push; a new repository is private.
    """
    from seccoderx_lite.cli.hub import push_folder, repository_for
    from seccoderx_lite.stages.pipeline import export_again

    formats = format or ["adapter"]
    targets = {form: repository_for(push, form, formats) for form in formats} if push else {}
    for form, folder in export_again(run_folder, formats, role=role, to=to).items():
        typer.echo(f"{form}: {folder}")
        if push:
            typer.echo(f"{form}: {push_folder(folder, targets[form])}")


@app.command()
def scan(
    paths: Annotated[list[Path], typer.Argument(help="Source files and folders.")],
    judge: Annotated[
        str, typer.Option(help="Run folder, adapter folder, or a judge as eval judge takes it.")
    ],
    cwe: Annotated[
        list[str] | None,
        typer.Option(help="Look for this weakness; those typical of each language without."),
    ] = None,
    format: Annotated[str, typer.Option(help="text, json or sarif.")] = "text",
    since: Annotated[
        str | None, typer.Option(help="Only functions changed since this git reference.")
    ] = None,
    fail_on: Annotated[
        float,
        typer.Option(min=0.0, help="Exit with 1 if a finding has this probability or more (a bare "
                     "verdict counts as 1); above 1 never."),
    ] = 0.5,
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    verdict: Annotated[
        str | None, typer.Option(help="How the judge answers; as it was trained to without.")
    ] = None,
) -> None:  # fmt: skip
    """Review source code with a judge, function by function; exit 1 if it finds something."""
    from seccoderx_lite.cli.scan import run

    with Progress() as progress:
        failed = run(
            paths, judge, cwe=cwe or [], form=format, since=since, fail_on=fail_on,
            output=output, verdict=verdict, progress=progress,
        )  # fmt: skip
    if failed:
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Show what this machine offers; exit 1 if `train` could not work here."""
    from seccoderx_lite.run.environment import (
        describe_gpu,
        sandbox_details,
        sandbox_tier,
        works_in_four_bits,
    )
    from seccoderx_lite.sandbox import Sandbox

    gpu, four_bits = describe_gpu(), works_in_four_bits()
    with Sandbox("limits-only") as sandbox:
        tier, layers = sandbox_tier(sandbox)
        details = sandbox_details(sandbox)
    typer.echo(f"GPU      {gpu['name'] if gpu else 'none: training runs on the CPU'}")
    typer.echo(f"4-bit    {'works' if four_bits is None else 'fails: ' + four_bits}")
    typer.echo(f"sandbox  {tier or 'none'} ({layers})")
    for line in details:
        typer.echo(f"         {line}")
    if four_bits or tier not in ("strong", "confined"):
        typer.echo(
            "train would not work with the default recipe: set model.quantization: none if 4-bit "
            "fails, sandbox.isolation: limits-only to accept a weaker sandbox",
            err=True,
        )
        raise typer.Exit(1)


@app.command()
def bench(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, for example recipes/tiny.yaml.")],
    override: Annotated[
        list[str] | None, typer.Option("-o", help="Change one setting: policy.grpo.group_size=8.")
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(help="Adapter of a trained judge; that of the recipe's run folder without."),
    ] = None,
    steps: Annotated[int, typer.Option(help="GRPO steps a run; the first only warms up.")] = 4,
    rounds: Annotated[int, typer.Option(help="Runs of each layout, in alternating order.")] = 2,
    to_json: Annotated[Path | None, typer.Option("--json", help="Also write the figures.")] = None,
) -> None:
    """Time a GRPO step phase by phase, against two models in memory and against no judge."""
    from seccoderx_lite.cli.bench import bench as measure
    from seccoderx_lite.cli.bench import table
    from seccoderx_lite.recipe.recipe import load_recipe

    result = measure(
        load_recipe(recipe, override or []), judge, steps=steps, rounds=rounds,
        on_layout=lambda layout, done, total: typer.echo(f"{done}/{total} {layout}", err=True),
    )  # fmt: skip
    for line in table(result):
        typer.echo(line)
    if to_json:
        to_json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


@app.command()
def synth(
    recipe: Annotated[
        Path, typer.Argument(help="YAML recipe, for example recipes/synth-tiny.yaml.")
    ],
    override: Annotated[
        list[str] | None, typer.Option("-o", help="Change one setting: seeds.data=mine.jsonl.")
    ] = None,
    run_folder: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/<name> without.")
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Move an earlier run aside and start anew; replies of the "
                     "generator are kept and not paid again."),
    ] = False,
) -> None:  # fmt: skip
    """Make coding tasks that invite the weaknesses of given vulnerable code.

    Vulnerable code -> application scenarios -> tasks -> filter -> references -> tests that prove
    themselves -> a data set that `train` takes as policy.tasks. Point it at your own code with a
    file of JSON lines such as {"code": "...", "language": "python", "cwe": "CWE-89"} and
    -o seeds.data=FILE; SVEN and PrimeVul files are read as they are. The generator is a local
    model (generator.model) or any OpenAI-compatible server (generator.endpoint, with
    generator.max_cost as a spending cap). An interrupted run goes on when the same command is
    given again, and asks nothing twice.
    """
    from seccoderx_lite.recipe.recipe import load_as
    from seccoderx_lite.recipe.synth import SynthRecipe

    loaded = load_as(SynthRecipe, recipe, override or [])
    from seccoderx_lite.stages.synth import run

    with Progress() as progress:
        dataset = run(loaded, run_folder, fresh=fresh, progress=progress)
    typer.echo(f"{dataset}: see README.md there; train with -o policy.tasks={dataset}")


@app.command()
def estimate(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, for example recipes/tiny.yaml.")],
    override: Annotated[
        list[str] | None, typer.Option("-o", help="Change one setting: policy.grpo.group_size=4.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="GPU memory, for example 16GB; this machine's without.")
    ] = None,
    card: Annotated[
        str | None, typer.Option(help="A GPU by name, for example T4: its memory, and least time.")
    ] = None,
) -> None:
    """Tell the GPU memory and work of a recipe before it is run, from the model's config alone.

    Exit code 1 if it does not fit; the smallest change that makes it fit is told. The figures are
    estimates for one CUDA GPU and were never measured on one.
    """
    from seccoderx_lite.cli.estimate import run
    from seccoderx_lite.recipe.recipe import load_recipe

    if not run(load_recipe(recipe, override or []), memory, card, typer.echo):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; every error is one short message and an exit code."""
    try:
        app()
    except RecipeError as error:
        _fail(error, 2)
    except SeccoderxError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        typer.echo("interrupted; give the same command again to go on", err=True)
        sys.exit(130)


def _fail(error: Exception, code: int) -> None:
    if _debug:
        traceback.print_exc()
    typer.echo(f"error: {error}", err=True)
    sys.exit(code)
