"""The filter: rules, near-duplicates, and balance; every drop has its reason.

Drafts come in a random order of their seeds, so a cap takes the first that come.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError, RecipeError
from seccoderx_lite.data.synthesis.duplicates import NearDuplicates, Sketch, remove_index
from seccoderx_lite.data.synthesis.lines import AnyFolder, Record
from seccoderx_lite.data.synthesis.rules import broken_rule
from seccoderx_lite.recipe.reading import parse_yaml
from seccoderx_lite.recipe.synth import SynthRecipe

FILTERED = "filter.jsonl"
_INDEX = "near_duplicates.sqlite"


class Filter:
    """The drafts kept so far; a resumed filter takes them from its own output."""

    def __init__(self, recipe: SynthRecipe, folder: AnyFolder) -> None:
        """Prepare; the counts file is read at once.

        Raises:
            RecipeError: the counts file has another form than "CWE-89: 200" lines.
        """
        self._settings = recipe.filter
        self._languages = recipe.tasks.languages
        self._folder = folder
        self._wanted = read_counts(recipe.filter.counts) if recipe.filter.counts else None
        self._kept: Counter[str] = Counter()
        self._index: NearDuplicates | None = None
        self._is_ready = False

    def __call__(self, position: int, drafts: list[Record]) -> list[Record]:
        """Return the drafts, each as it is or with the reason why it was dropped."""
        if not self._is_ready:
            self._restore(position)
        if self._index:
            self._index.begin()
        judged = [self._judged(position + n, draft) for n, draft in enumerate(drafts)]
        if self._index:
            self._index.commit()
        return judged

    def close(self) -> None:
        """Remove the index, which can be made again from the output."""
        if self._index:
            self._index.close()
        remove_index(self._folder.path / _INDEX)

    def _judged(self, position: int, draft: Record) -> Record:
        if reason := broken_rule(draft, self._settings, self._languages):
            return {**draft, "dropped": reason}
        sketch = self._sketch(draft)
        if self._index and sketch and (twin := self._index.find(sketch)):
            return {**draft, "dropped": "near-duplicate", "detail": f"of {twin}"}
        if full := self._full(draft):
            return {**draft, "dropped": full}
        self._keep(position, draft, sketch)
        return draft

    def _sketch(self, draft: Record) -> Sketch | None:
        return self._index.sketch(draft["language"], draft["prompt"]) if self._index else None

    def _full(self, draft: Record) -> str | None:
        settings, id_, language = self._settings, draft["cwe"], draft["language"]
        if self._wanted is not None and self._kept[id_] >= self._wanted.get(id_, 0):
            return "enough of this weakness by the counts file"
        if settings.max_per_cwe and self._kept[id_] >= settings.max_per_cwe:
            return "enough of this weakness"
        if settings.max_per_language and self._kept[language] >= settings.max_per_language:
            return "enough of this language"
        return None

    def _keep(self, position: int, draft: Record, sketch: Sketch | None) -> None:
        self._kept.update((draft["cwe"], draft["language"]))
        if self._index and sketch:
            self._index.add(position, draft["id"], sketch)

    def _restore(self, position: int) -> None:
        """Take counts and, where the index on disk is not what it must be, the index from lines."""
        path = self._folder.path / _INDEX
        threshold = self._settings.near_duplicate
        kept = 0
        for record in self._folder.read_jsonl(FILTERED):
            if "dropped" not in record:
                kept += 1
                self._kept.update((record["cwe"], record["language"]))
        if threshold is not None:
            self._index = _whole_index(path, threshold, position, kept)
        if self._index is None and threshold is not None:
            remove_index(path)
            self._index = NearDuplicates(path, threshold)
            self._kept.clear()
            self._index.begin()
            for number, record in enumerate(self._folder.read_jsonl(FILTERED)):
                if "dropped" not in record:
                    self._keep(number, record, self._sketch(record))
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
    """Return how many tasks of each weakness are wanted.

    Raises:
        RecipeError: the file is missing, or is not "CWE-89: 200" lines.
    """
    try:
        data = parse_yaml(Path(file).read_text(encoding="utf-8"), file)
        counts = {cwe.normalise(id_): count for id_, count in data.items()}
        if not all(isinstance(count, int) and count >= 0 for count in counts.values()):
            raise ValueError("counts must be whole numbers")
    except (OSError, ValueError, AttributeError, DataError) as error:
        raise RecipeError(f"filter.counts: {file} must hold CWE-89: 200 lines ({error})") from error
    return counts
