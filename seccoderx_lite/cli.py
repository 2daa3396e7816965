"""The command line: thin commands over the functions a notebook calls."""

import logging
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from seccoderx_lite.errors import RecipeError, SeccoderxError

app = typer.Typer(
    name="seccoderx-lite",
    help="Teach a code model to write secure code that still works, on one GPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

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
                     "policy, evaluate, export, report."),
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
    from seccoderx_lite.recipe import load_recipe

    loaded = load_recipe(recipe, override or [])
    from seccoderx_lite.pipeline import train as run
    from seccoderx_lite.processes import is_first_process

    with _Progress(is_first_process()) as progress:
        folder = run(loaded, run_folder, stages=stage or [], fresh=fresh, progress=progress)
    if is_first_process():
        _tell_results(folder)


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run, for example runs/tiny.")],
) -> None:
    """Write report.html again from the files of a run folder."""
    from seccoderx_lite.run_folder import RunFolder
    from seccoderx_lite.stages.report import run

    typer.echo(run(RunFolder.existing(run_folder)))


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
    from seccoderx_lite.hub import push_folder, repository_for
    from seccoderx_lite.pipeline import export_again

    formats = format or ["adapter"]
    targets = {form: repository_for(push, form, formats) for form in formats} if push else {}
    for form, folder in export_again(run_folder, formats, role=role, to=to).items():
        typer.echo(f"{form}: {folder}")
        if push:
            typer.echo(f"{form}: {push_folder(folder, targets[form])}")


@app.command()
def doctor() -> None:
    """Show what this machine offers; exit 1 if `train` could not work here."""
    from seccoderx_lite.environment import describe_gpu, sandbox_tier, works_in_four_bits
    from seccoderx_lite.sandbox import Sandbox

    gpu, four_bits = describe_gpu(), works_in_four_bits()
    with Sandbox("limits-only") as sandbox:
        tier, layers = sandbox_tier(sandbox)
    typer.echo(f"GPU      {gpu['name'] if gpu else 'none: training runs on the CPU'}")
    typer.echo(f"4-bit    {'works' if four_bits is None else 'fails: ' + four_bits}")
    typer.echo(f"sandbox  {tier or 'none'} ({layers})")
    if four_bits or tier not in ("strong", "confined"):
        typer.echo(
            "train would not work with the default recipe: set model.quantization: none if 4-bit "
            "fails, sandbox.isolation: limits-only to accept a weaker sandbox",
            err=True,
        )
        raise typer.Exit(1)


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
    from seccoderx_lite.estimate_command import run
    from seccoderx_lite.recipe import load_recipe

    if not run(load_recipe(recipe, override or []), memory, card, typer.echo):
        raise typer.Exit(1)


class _Progress:
    """A live line on a terminal; elsewhere one line a finished stage."""

    def __init__(self, is_shown: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description:<10}"), BarColumn(20), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[told]}"),
            console=self._console, disable=not (is_shown and self._console.is_terminal),
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._bar.stop()

    def __call__(self, stage: str, step: int, total: int, values: Mapping[str, Any]) -> None:
        """Draw the state of a stage."""
        if values.get("done"):
            if not self._console.is_terminal:
                typer.echo(f"{stage}: done", err=True)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total, told="")
            if not self._console.is_terminal:
                typer.echo(f"{stage}: started", err=True)
        self._bar.update(self._tasks[stage], completed=step, total=total, told=_told(values))


_SHOWN = {
    "reward": "reward", "rollout_esr": "ESR", "functional_share": "works",
    "judged_safe_share": "judged safe", "kl": "KL", "accuracy": "accuracy", "loss": "loss",
    "tokens_per_s": "tokens/s",
}  # fmt: skip


def _told(values: Mapping[str, Any]) -> str:
    return "  ".join(
        f"{name} {values[key]:.3g}" for key, name in _SHOWN.items()
        if isinstance(values.get(key), int | float)
    )  # fmt: skip


def _tell_results(folder: Path) -> None:
    from seccoderx_lite.run_folder import RunFolder

    run = RunFolder.existing(folder)
    if (folder / "evaluation.json").exists():
        evaluation = run.read_json("evaluation.json")
        for suite, before in evaluation["before"].items():
            after = evaluation.get("after", {}).get(suite)
            metric = "esr" if before["esr"] is not None else "functional"
            arrow = f" -> {after[metric]:.3f}" if after else ""
            works = f", functional {before['functional']:.3f}" if metric == "esr" else ""
            works += f" -> {after['functional']:.3f}" if works and after else ""
            typer.echo(f"{suite}: {metric} {before[metric]:.3f}{arrow}{works}")
    for place in ("export/merged", "export/adapter", "export/gguf", "report.html"):
        if (folder / place).exists():
            typer.echo(folder / place)


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
