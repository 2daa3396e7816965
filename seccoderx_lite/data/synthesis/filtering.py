"""The stage `filter`: rules, near-duplicates and caps; every drop has its reason.

Drafts are in the random order of their seeds, so a cap keeps the first ones.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError, RecipeError
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.context import StageFiles, Synthesis
from seccoderx_lite.data.synthesis.duplicates import NearDuplicates, Sketch, remove_index
from seccoderx_lite.data.synthesis.rules import broken_rule
from seccoderx_lite.data.synthesis.stage_files import AnyFolder, Line, count_passed, passed
from seccoderx_lite.recipe.reading import parse_yaml
from seccoderx_lite.recipe.synth import SynthRecipe

FILTERED = "filter.jsonl"
_INDEX = "near_duplicates.sqlite"
_CHUNK = 256


def filter_drafts(synthesis: Synthesis, stage: StageFiles) -> dict[str, Json]:
    work = Filter(synthesis.recipe, synthesis.folder)
    total = count_passed(synthesis.folder, stage.source)
    drafts = passed(synthesis.folder, stage.source)
    summary = synthesis.process(stage, drafts, total, work, _CHUNK)
    work.close()
    return summary


class Filter:
    """Filters drafts by the rules and by what was kept before, also before a resume."""

    def __init__(self, recipe: SynthRecipe, folder: AnyFolder) -> None:
        """Prepare, and read the counts file.

        Raises:
            RecipeError: the counts file does not consist of lines such as "CWE-89: 200".
        """
        self._settings = recipe.filter
        self._languages = recipe.tasks.languages
        self._folder = folder
        self._wanted = read_counts(recipe.filter.counts) if recipe.filter.counts else None
        self._kept: Counter[str] = Counter()
        self._index: NearDuplicates | None = None
        self._is_ready = False

    def __call__(self, position: int, drafts: list[Line]) -> list[Line]:
        """Return the drafts, unchanged or with the reason for the drop."""
        if not self._is_ready:
            self._restore(position)
        if self._index:
            self._index.begin()
        filtered = [self._filtered(position + n, draft) for n, draft in enumerate(drafts)]
        if self._index:
            self._index.commit()
        return filtered

    def close(self) -> None:
        """Delete the index; it can be rebuilt from the output."""
        if self._index:
            self._index.close()
        remove_index(self._folder.path / _INDEX)

    def _filtered(self, position: int, draft: Line) -> Line:
        if reason := broken_rule(draft, self._settings, self._languages):
            return {**draft, "dropped": reason}
        sketch = self._sketch(draft)
        if self._index and sketch and (twin := self._index.find(sketch)):
            return {**draft, "dropped": "near-duplicate", "detail": f"of {twin}"}
        if full := self._full(draft):
            return {**draft, "dropped": full}
        self._keep(position, draft, sketch)
        return draft

    def _sketch(self, draft: Line) -> Sketch | None:
        return self._index.sketch(draft["language"], draft["prompt"]) if self._index else None

    def _full(self, draft: Line) -> str | None:
        settings, id_, language = self._settings, draft["cwe"], draft["language"]
        if self._wanted is not None and self._kept[id_] >= self._wanted.get(id_, 0):
            return "enough of this weakness by the counts file"
        if settings.max_per_cwe and self._kept[id_] >= settings.max_per_cwe:
            return "enough of this weakness"
        if settings.max_per_language and self._kept[language] >= settings.max_per_language:
            return "enough of this language"
        return None

    def _keep(self, position: int, draft: Line, sketch: Sketch | None) -> None:
        self._kept.update((draft["cwe"], draft["language"]))
        if self._index and sketch:
            self._index.add(position, draft["id"], sketch)

    def _restore(self, position: int) -> None:
        """Read the counts, and the index if that on disk is not complete, from the output."""
        path = self._folder.path / _INDEX
        threshold = self._settings.near_duplicate
        kept = 0
        for line in passed(self._folder, FILTERED):
            kept += 1
            self._kept.update((line["cwe"], line["language"]))
        if threshold is not None:
            self._index = _whole_index(path, threshold, position, kept)
        if self._index is None and threshold is not None:
            remove_index(path)
            self._index = NearDuplicates(path, threshold)
            self._kept.clear()
            self._index.begin()
            for number, line in enumerate(self._folder.read_jsonl(FILTERED)):
                if "dropped" not in line:
                    self._keep(number, line, self._sketch(line))
            self._index.commit()
        self._is_ready = True


def _whole_index(path: Path, threshold: float, position: int, kept: int) -> NearDuplicates | None:
    try:
        index = NearDuplicates(path, threshold)
        index.forget_from(position)
        if index.count() == kept:
            return index
    except sqlite3.DatabaseError:
        return None
    index.close()
    return None


def read_counts(file: str) -> Mapping[str, int]:
    """Return the number of tasks wanted per weakness.

    Raises:
        RecipeError: the file is missing, or does not consist of lines such as "CWE-89: 200".
    """
    try:
        data = parse_yaml(Path(file).read_text(encoding="utf-8"), file)
        counts = {cwe.normalise(id_): count for id_, count in data.items()}
        if not all(isinstance(count, int) and count >= 0 for count in counts.values()):
            raise ValueError("counts must be whole numbers")
    except (OSError, ValueError, AttributeError, DataError) as error:
        raise RecipeError(
            f"filter.counts: {file} must consist of lines such as CWE-89: 200 ({error})"
        ) from error
    return counts
