"""The folder of one run: what is where, written so that a killed run leaves no half file.

Whole files are replaced atomically. Lines are appended in one write each; a line torn by a crash
is cut off when the folder is opened again. What the files say is up to the stages.
"""

import json
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
from seccoderx_lite.recipe.sections import Section
from seccoderx_lite.run import files as folder_files

logger = logging.getLogger(__name__)

_RECIPE = "recipe.yaml"
_ENVIRONMENT = "environment.json"
_STAGES = "stages.json"

RecipeOf = TypeVar("RecipeOf", bound=Section, default=Recipe)


class RunFolder(Generic[RecipeOf]):
    """An open run folder: `open` one to work in it, take an `existing` one to read it.

    Only `open` locks. The lock is the kernel's: it ends with the process that holds it, however
    that process ends, so a killed run never has to be unlocked by hand.
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

        `fresh` moves a folder that is already there aside, to the first free of `<path>.1`,
        `<path>.2`, ...; nothing is ever deleted. `environment` goes to `environment.json`, which
        keeps what it said before under `earlier` if a run is resumed elsewhere.

        Raises:
            RunFolderError: the folder is of another recipe, in use, damaged, or no run folder.
        """
        path = Path(os.path.abspath(path))
        if fresh and (path / _RECIPE).exists():
            _move_aside(path)
        folder = cls(path, recipe, folder_files.lock(path))
        try:
            folder._check_owner()
            folder_files.repair(path)
            folder.write_text(_RECIPE, dump_recipe(recipe))
            if environment is not None:
                folder._write_environment(environment)
        except BaseException:
            folder.close()
            raise
        return folder

    @staticmethod
    def existing(path: Path | str) -> "RunFolder[Recipe]":
        """Return a folder for reading with the recipe it was made by, even while a run goes on.

        Raises:
            RunFolderError: there is no run in this folder, or its recipe is damaged.
        """
        path = Path(os.path.abspath(path))
        if not (path / _RECIPE).exists():
            raise RunFolderError(f"{path} is no run folder: it has no {_RECIPE}")
        return RunFolder(path, _stored_recipe(path, Recipe))

    @classmethod
    def following(cls, path: Path | str, recipe: RecipeOf) -> Self:
        """Return a folder that another process of the same run writes; writes here do nothing."""
        return cls(Path(os.path.abspath(path)), recipe, writes=False)

    def close(self) -> None:
        """Let another process have the folder; harmless when repeated."""
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
        """Where the trained judge adapter lies."""
        return self.path / "judge" / "adapter"

    @property
    def policy_adapter(self) -> Path:
        """Where the trained policy adapter lies."""
        return self.path / "policy" / "adapter"

    @property
    def export(self) -> Path:
        """Where exports go."""
        return self.path / "export"

    def checkpoints(self, stage: str) -> Path:
        """Where the checkpoints of a stage such as "policy" or "judge/align" go."""
        return self.path / stage / "checkpoints"

    def mark_done(self, stage: str, summary: Mapping[str, Json]) -> None:
        """Record that a stage is finished, with the few numbers worth telling about it."""
        self.write_json(_STAGES, {**self._stages(), stage: dict(summary)})

    def is_done(self, stage: str) -> bool:
        """Tell whether a stage is finished."""
        return stage in self._stages()

    def read_summary(self, stage: str) -> dict[str, Json]:
        """Return what `mark_done` recorded.

        Raises:
            RunFolderError: the stage is not finished.
        """
        stages = self._stages()
        if stage not in stages:
            done = ", ".join(stages) or "none"
            raise RunFolderError(f"{self.path}: stage {stage} is not finished (finished: {done})")
        return dict(stages[stage])

    def forget(self, stage: str) -> None:
        """Take back that a stage is finished, so that it runs again; its files stay."""
        self.write_json(_STAGES, {k: v for k, v in self._stages().items() if k != stage})

    def write_text(self, name: str, text: str) -> Path:
        """Replace a file as a whole: whoever reads it sees the old text or the new one."""
        if not self._writes:
            return self.path / name
        return folder_files.write_text(self.path / name, text)

    def write_json(self, name: str, data: Json) -> Path:
        """Replace a JSON file as a whole; numbers that are not finite become null."""
        if not self._writes:
            return self.path / name
        return folder_files.write_json(self.path / name, data)

    def read_json(self, name: str) -> Json:
        """Return the data of a JSON file in the folder.

        Raises:
            RunFolderError: the file is missing or damaged.
        """
        return folder_files.read_json(self.path / name)

    def append_jsonl(self, name: str, record: Mapping[str, Json]) -> None:
        """Append one record as one line; numbers that are not finite become null.

        The line reaches the kernel before this returns, so that only a power failure can lose it.
        """
        if self._writes:
            folder_files.append_jsonl(self.path / name, record)

    def read_jsonl(self, name: str) -> Iterator[dict[str, Json]]:
        """Yield the records of a file, none if it is missing; a line still being written is left.

        Raises:
            RunFolderError: a line is damaged.
        """
        return folder_files.read_jsonl(self.path / name)

    def truncate_jsonl(self, name: str, keep: Callable[[dict[str, Json]], bool]) -> None:
        """Keep only the records that pass the test, so that a resumed stage repeats none.

        For example `lambda r: r["stage"] != "policy" or r["step"] <= checkpoint_step`.
        """
        if self._writes and (self.path / name).exists():
            kept = [json.dumps(r, ensure_ascii=False) for r in self.read_jsonl(name) if keep(r)]
            self.write_text(name, "".join(f"{line}\n" for line in kept))

    def _stages(self) -> dict[str, dict[str, Json]]:
        if not (self.path / _STAGES).exists():
            return {}
        stages: dict[str, dict[str, Json]] = self.read_json(_STAGES)
        return stages

    def _check_owner(self) -> None:
        """Refuse a folder of another recipe, and a folder that holds something else than a run."""
        if not (self.path / _RECIPE).exists():
            foreign = [entry.name for entry in self.path.iterdir() if entry.name[0] != "."]
            if foreign:
                raise RunFolderError(
                    f"{self.path} is no run folder and not empty (it has {short_repr(foreign)}); "
                    "choose another --run-folder or recipe name"
                )
            return
        stored = _stored_recipe(self.path, type(self.recipe))
        if keys := differing_keys(stored, self.recipe):
            there, here = deciding_fields(stored), deciding_fields(self.recipe)
            told = [f"{k}: {_told(there, k)} there, {_told(here, k)} now" for k in keys[:8]]
            more = f"\n  and {len(keys) - 8} more" if len(keys) > 8 else ""
            raise RunFolderError(
                f"{self.path} belongs to another recipe:\n  " + "\n  ".join(told) + more + "\n"
                "Move it aside and start anew with --fresh, "
                "or choose another --run-folder or recipe name."
            )

    def _write_environment(self, environment: Mapping[str, Json]) -> None:
        data = dict(environment)
        if (self.path / _ENVIRONMENT).exists():
            before = self.read_json(_ENVIRONMENT)
            earlier = before.pop("earlier", [])
            if before != folder_files.finite(data):
                earlier = [*earlier, before]
            if earlier:
                data["earlier"] = earlier
        self.write_json(_ENVIRONMENT, data)


def default_run_folder(recipe: Recipe) -> Path:
    """Return `runs/<name>` in the working folder."""
    return Path("runs") / recipe.name


def _move_aside(path: Path) -> None:
    """Rename a folder that nobody uses to the first free of `<path>.1`, `<path>.2`, ..."""
    lock = folder_files.lock(path)
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
    """The recipe a folder was made by, its paths as they are written there."""
    file = path / _RECIPE
    try:
        return check_as(model, read_document(file), str(file))
    except RecipeError as error:
        raise RunFolderError(
            f"{file} is damaged, or was written by another version of the toolkit; use --fresh or "
            f"another --run-folder.\n{error}"
        ) from error


def _told(fields: Mapping[str, Json], key: str) -> str:
    return short_repr(fields[key]) if key in fields else "nothing"
