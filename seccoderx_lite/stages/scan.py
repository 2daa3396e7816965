"""Review source files: the judge reads each function, once per weakness.

One weakness per question, so that a finding names its weakness. The judge sees one function at a
time: it cannot know what depends on code elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seccoderx_lite.core import cwe as catalogue
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Language, Verdict
from seccoderx_lite.data.functions import Function, split_functions
from seccoderx_lite.data.source_files import Changes, LineSpan, Skipped, find_sources
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.judge.loading import LoadedJudge, in_batches, load_judge
from seccoderx_lite.judge.prompt import is_cut_for_judge
from seccoderx_lite.reporting.findings import Finding, ScanResult
from seccoderx_lite.run.progress import Progress, default_progress


@dataclass(frozen=True, slots=True)
class _FoundFunction:
    path: Path
    language: Language
    function: Function


def scan(
    paths: Sequence[Path | str],
    judge: LoadedJudge | str,
    *,
    cwe: Sequence[str] = (),
    since: str | None = None,
    threshold: float = 0.5,
    progress: Progress | None = None,
) -> ScanResult:
    """Judge the functions of source files and return the findings.

    Args:
        paths: files and folders.
        judge: a loaded judge, or a name that `judge.loading` accepts.
        cwe: weaknesses to look for (default: the typical ones of each language).
        since: a git reference; only functions with lines changed since then are judged.
        threshold: code at or above this probability is a finding, whatever the verdict.
        progress: called after each batch of verdicts.

    Raises:
        DataError: a path does not exist, a weakness is not a CWE id, or git does not know `since`.
        ModelError: the judge cannot be loaded.
        RecipeError: there is no source file at or below the paths.
    """
    wanted = tuple(catalogue.normalise(each) for each in cwe)
    found, skipped, files = _find([Path(path) for path in paths], since)
    loaded = load_judge(judge) if isinstance(judge, str) else judge
    questions, too_long = _questions(found, wanted, loaded)
    verdicts = _verdicts(loaded, [item for _, item in questions], progress or default_progress())
    findings = [
        _finding(place, item.cwe[0], verdict)
        for (place, item), verdict in zip(questions, verdicts, strict=True)
        if _is_finding(verdict, threshold)
    ]
    labels = [verdict.label for verdict in verdicts]
    return ScanResult(
        judge=loaded.name,
        findings=findings,
        skipped=skipped + too_long,
        files=files,
        functions=len(found),
        verdicts=len(labels),
        unclear=labels.count("unclear"),
        unscored=labels.count(None),
    )


def _find(
    paths: Sequence[Path], since: str | None
) -> tuple[list[_FoundFunction], list[Skipped], int]:
    """Return the functions to judge, the files skipped, and the number of files read."""
    found: list[_FoundFunction] = []
    skipped: list[Skipped] = []
    files = 0
    changes = Changes(since) if since is not None else None
    for source in find_sources(paths):
        if isinstance(source, Skipped):
            skipped.append(source)
            continue
        files += 1
        spans = changes.lines_of(source.path) if changes else None
        for function in split_functions(source.code, source.language):
            if spans is None or _touches(function, spans):
                found.append(_FoundFunction(source.path, source.language, function))
    if not files and not skipped:
        raise RecipeError(
            f"PATH: no source file in {', '.join(map(str, paths))}; "
            "scan reads Python, JavaScript, C, C++, Java and Go"
        )
    return found, skipped, files


def _questions(
    found: Sequence[_FoundFunction], wanted: Sequence[str], judge: LoadedJudge
) -> tuple[list[tuple[_FoundFunction, CodeToJudge]], list[Skipped]]:
    """Return each function with each of its weaknesses, and the functions the judge cannot read."""
    questions: list[tuple[_FoundFunction, CodeToJudge]] = []
    skipped: list[Skipped] = []
    for place in found:
        asked = wanted or catalogue.typical_of(place.language)
        items = [CodeToJudge(place.function.code, place.language, (id_,)) for id_ in asked]
        if reason := _unreadable(judge, items):
            skipped.append(Skipped(place.path, reason, place.function.start_line))
        else:
            questions += [(place, item) for item in items]
    return questions, skipped


def _touches(function: Function, spans: Sequence[LineSpan]) -> bool:
    return any(low <= function.end_line and function.start_line <= high for low, high in spans)


def _unreadable(judge: LoadedJudge, questions: Sequence[CodeToJudge]) -> str | None:
    """Return why the judge cannot read the whole function together with one of the weaknesses.

    A weakness with a longer description leaves less room for the code.
    """
    recipe, first = judge.recipe, questions[0]
    if recipe and is_cut_for_judge(
        first.code,
        first.language,
        strip_comments=recipe.strip_comments,
        max_code_chars=recipe.max_code_chars,
    ):
        return f"too long for the judge: it reads {recipe.max_code_chars} characters"
    return next(filter(None, map(judge.why_unreadable, questions)), None)


def _verdicts(
    judge: LoadedJudge, items: Sequence[CodeToJudge], progress: Progress
) -> list[Verdict]:
    verdicts: dict[int, Verdict] = {}
    progress("scan", 0, len(items), {})
    for batch in in_batches(items, judge.batch_size):
        given = judge.judge.verdicts([items[place] for place in batch])
        verdicts.update(zip(batch, given, strict=True))
        progress("scan", len(verdicts), len(items), {})
    return [verdicts[place] for place in range(len(items))]


def _is_finding(verdict: Verdict, threshold: float) -> bool:
    p = verdict.p_vulnerable
    return verdict.label == "vulnerable" or (p is not None and p >= threshold)


def _finding(place: _FoundFunction, cwe: str, verdict: Verdict) -> Finding:
    function = place.function
    return Finding(
        path=place.path,
        function=function.name,
        start_line=function.start_line,
        end_line=function.end_line,
        cwe=cwe,
        p_vulnerable=verdict.p_vulnerable,
        reasoning=verdict.reasoning,
        code=function.code,
    )
