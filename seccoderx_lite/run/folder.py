"""The folder of one run: where each file is, who may write it, and which stages are finished.

What the files contain is up to the stages; that a killed run leaves no half file is up to `files`.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from reprlib import repr as short_repr
from types import TracebackType
from typing import Generic, Self

from typing_extensions import TypeVar

from seccoderx_lite.core.errors import RecipeError, RunFolderError
from seccoderx_lite.core.records import Json
from seccoderx_lite.recipe.reading import read_document
from seccoderx_lite.recipe.recipe import (
    Recipe,
    check_as,
    deciding_fields,
    differing_keys,
    dump_recipe,
)
from seccoderx_lite.recipe.section import Mark, Section, marked_keys
from seccoderx_lite.run import files

logger = logging.getLogger(__name__)

_RECIPE = "recipe.yaml"
_ENVIRONMENT = "environment.json"
_STAGES = "stages.json"
AUDIT = "audit.json"
"""What an audit of the recipe found; it may be there before the first stage."""

STEP_FILES = ("metrics.jsonl", "completions.jsonl", "held_out.jsonl")
"""Files whose records belong to a step of a stage."""

RecipeOf = TypeVar("RecipeOf", bound=Section, default=Recipe)


class RunFolder(Generic[RecipeOf]):
    """A run folder: `open` it to work in it, use `existing` to read it.

    Only `open` locks it. The kernel releases the lock when the process ends, however it ends, so a
    killed run never has to be unlocked by hand.
    """

    def __init__(
        self, path: Path, recipe: RecipeOf, lock: int | None = None, *, writes: bool = True
    ) -> None:
        self.path = path
        self.recipe = recipe
        self._lock = lock
        self._writes = writes

    @classmethod
    def open(
        cls,
        path: Path | str,
        recipe: RecipeOf,
        fresh: bool = False,
        environment: Mapping[str, Json] | None = None,
    ) -> Self:
        """Create or resume the folder of this recipe, for this process alone.

        `fresh` renames an existing folder to the first free of `<path>.1`, `<path>.2`, ...; nothing
        is ever deleted. `environment` is written to `environment.json`; when a run is resumed on
        another machine, the former content is kept there under `earlier`.

        Raises:
            RunFolderError: the folder belongs to another recipe, is in use, is damaged, or is not
                a run folder.
        """
        path = Path(os.path.abspath(path))
        if fresh and (path / _RECIPE).exists():
            _move_aside(path)
        folder = cls(path, recipe, files.lock(path))
        try:
            folder._check_owner()
            files.repair(path)
            folder.write_text(_RECIPE, dump_recipe(recipe))
            if environment is not None:
                folder._write_environment(environment)
        except BaseException:
            folder.close()
            raise
        return folder

    @staticmethod
    def existing(path: Path | str) -> "RunFolder[Recipe]":
        """Return a folder for reading, with its stored recipe; also while a run is writing to it.

        Raises:
            RunFolderError: this is not a run folder, or its recipe is damaged.
        """
        path = Path(os.path.abspath(path))
        if not (path / _RECIPE).exists():
            raise RunFolderError(f"{path} is not a run folder: it has no {_RECIPE}")
        return RunFolder(path, _stored_recipe(path, Recipe))

    @classmethod
    def following(cls, path: Path | str, recipe: RecipeOf) -> Self:
        """Return a folder that another process of the same run writes; writing to it is ignored."""
        return cls(Path(os.path.abspath(path)), recipe, writes=False)

    def close(self) -> None:
        """Release the lock; may be called more than once."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def judge_adapter(self) -> Path:
        return self.path / "judge" / "adapter"

    @property
    def warm_start_adapter(self) -> Path:
        return self.path / "warm_start" / "adapter"

    @property
    def task_checks(self) -> Path:
        """Results of the references of tasks on their own tests."""
        return self.path / "task_checks.json"

    @property
    def rollout_engine(self) -> Path:
        """What `policy.grpo.rollout_engine: auto` found."""
        return self.path / "rollout_engine.json"

    @property
    def policy_adapter(self) -> Path:
        return self.path / "policy" / "adapter"

    @property
    def policy_candidates(self) -> Path:
        """Folder of the adapters among which `policy.keep: best` chooses."""
        return self.path / "policy" / "candidates"

    @property
    def export(self) -> Path:
        return self.path / "export"

    def checkpoints(self, stage: str) -> Path:
        """Folder of the checkpoints of a stage's folder such as "policy" or "judge/align"."""
        return self.path / stage / "checkpoints"

    def mark_done(self, stage: str, summary: Mapping[str, Json]) -> None:
        """Record that a stage is finished, with a summary of its results."""
        self.write_json(_STAGES, {**self._stages(), stage: dict(summary)})

    def is_done(self, stage: str) -> bool:
        return stage in self._stages()

    def read_summary(self, stage: str) -> dict[str, Json]:
        """Return the summary given to `mark_done`.

        Raises:
            RunFolderError: the stage is not finished.
        """
        stages = self._stages()
        if stage not in stages:
            done = ", ".join(stages) or "none"
            raise RunFolderError(f"{self.path}: stage {stage} is not finished (finished: {done})")
        return dict(stages[stage])

    def forget(self, stage: str) -> None:
        """Mark a stage as unfinished, so that it runs again; its files stay."""
        self.write_json(_STAGES, {k: v for k, v in self._stages().items() if k != stage})

    def write_text(self, name: str, text: str) -> Path:
        """Replace a file atomically."""
        if not self._writes:
            return self.path / name
        return files.write_text(self.path / name, text)

    def write_json(self, name: str, data: Json) -> Path:
        """Replace a JSON file atomically; numbers that are not finite become null."""
        if not self._writes:
            return self.path / name
        return files.write_json(self.path / name, data)

    def read_json(self, name: str) -> Json:
        """Return the data of a JSON file in the folder.

        Raises:
            RunFolderError: the file is missing or damaged.
        """
        return files.read_json(self.path / name)

    def append_jsonl(self, name: str, record: Mapping[str, Json]) -> None:
        """Append one record as one line; numbers that are not finite become null."""
        if self._writes:
            files.append_jsonl(self.path / name, record)

    def read_jsonl(self, name: str) -> Iterator[dict[str, Json]]:
        """Yield the records of a file, none if it is missing; an unfinished last line is skipped.

        Raises:
            RunFolderError: a line is damaged.
        """
        return files.read_jsonl(self.path / name)

    def read_records(self, name: str) -> Iterator[dict[str, Json]]:
        """Yield the records of one of the run's own files, which have the keys of their kind.

        Raises:
            RunFolderError: a line is damaged.
        """
        return files.read_jsonl(self.path / name, _KEYS[name])

    def truncate_jsonl(self, name: str, keep: Callable[[dict[str, Json]], bool]) -> None:
        """Keep only the records that pass the test, so that a resumed stage writes none twice.

        For example `lambda r: r["stage"] != "policy" or r["step"] <= checkpoint_step`.
        """
        if self._writes and (self.path / name).exists():
            files.write_jsonl(self.path / name, (r for r in self.read_jsonl(name) if keep(r)))

    def _stages(self) -> dict[str, dict[str, Json]]:
        if not (self.path / _STAGES).exists():
            return {}
        stages = files.read_object(self.path / _STAGES)
        if wrong := [name for name, summary in stages.items() if not isinstance(summary, dict)]:
            raise RunFolderError(
                f"{self.path / _STAGES} is damaged: the summary of {wrong[0]!r:.40} must be an "
                "object; restore the file, or delete it to run all stages again"
            )
        return stages

    def _check_owner(self) -> None:
        """Refuse a folder of another recipe, and a folder with files that are not a run's."""
        if not (self.path / _RECIPE).exists():
            others = [entry.name for entry in self.path.iterdir() if entry.name[0] != "."]
            if others:
                raise RunFolderError(
                    f"{self.path} is not a run folder and not empty (it has {short_repr(others)}); "
                    "choose another --run-folder or recipe name"
                )
            return
        stored = _stored_recipe(self.path, type(self.recipe))
        there, here = deciding_fields(stored), deciding_fields(self.recipe)
        growing = set(marked_keys(type(stored), Mark.CAN_GROW))
        keys = [
            key
            for key in differing_keys(stored, self.recipe)
            if not (key in growing and there.get(key, 0) < here.get(key, 0))
        ]
        if keys and self._is_unclaimed(stored):
            (self.path / _ENVIRONMENT).unlink(missing_ok=True)
        elif keys:
            shown = [f"{k}: {_shown(there, k)} there, {_shown(here, k)} now" for k in keys[:8]]
            if len(keys) > 8:
                shown.append(f"and {len(keys) - 8} more")
            differences = "\n  ".join(shown)
            raise RunFolderError(
                f"{self.path} belongs to another recipe:\n  {differences}\n"
                "Use --fresh to move it aside and start a new run, or choose another --run-folder "
                "or recipe name. To extend a run, raise its steps and change nothing else."
            )

    def _is_unclaimed(self, stored: RecipeOf) -> bool:
        """Whether the folder has only what opening it wrote: its run ended before any result."""
        written = {
            self.path / _RECIPE,
            self.path / _ENVIRONMENT,
            self.path / AUDIT,
            self.task_checks,
            self.rollout_engine,
        }
        found = {
            entry
            for entry in self.path.rglob("*")
            if entry.name[0] != "." and (entry.is_symlink() or not entry.is_dir())
        }
        is_ours = (self.path / _RECIPE).read_text("utf-8") == dump_recipe(stored)
        return is_ours and found <= written

    def _environment_before(self) -> tuple[dict[str, Json], list[Json]]:
        """Return the stored environment, and those before; a damaged file is replaced."""
        try:
            before = files.read_object(self.path / _ENVIRONMENT)
        except RunFolderError as error:
            logger.warning("%s; it is written anew", error)
            return {}, []
        earlier = before.pop("earlier", [])
        return before, earlier if isinstance(earlier, list) else []

    def _write_environment(self, environment: Mapping[str, Json]) -> None:
        data = dict(environment)
        if (self.path / _ENVIRONMENT).exists():
            before, earlier = self._environment_before()
            if before and before != files.finite(data):
                earlier = [*earlier, before]
            if earlier:
                data["earlier"] = earlier
        self.write_json(_ENVIRONMENT, data)


_KEYS: dict[str, dict[str, type]] = {
    "metrics.jsonl": {"stage": str, "step": int},
    "completions.jsonl": {"stage": str, "step": int},
    "answers.jsonl": {"phase": str, "suite": str, "task": str, "sample": int, "status": str},
}
"""Keys that every record of a file has."""


def default_run_folder(recipe: Recipe) -> Path:
    return Path("runs") / recipe.name


def _move_aside(path: Path) -> None:
    """Rename a folder that is not in use to the first free of `<path>.1`, `<path>.2`, ..."""
    lock = files.lock(path)
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be moved aside: {error.strerror}") from error
    finally:
        os.close(lock)
    logger.info("moved the old run folder to %s", aside)


def _stored_recipe(path: Path, model: type[RecipeOf]) -> RecipeOf:
    file = path / _RECIPE
    try:
        return check_as(model, read_document(file), str(file))
    except RecipeError as error:
        raise RunFolderError(
            f"{file} is damaged, or was written by another version of the toolkit; use --fresh or "
            f"another --run-folder\n{error}"
        ) from error


def _shown(fields: Mapping[str, Json], key: str) -> str:
    return short_repr(fields[key]) if key in fields else "nothing"
