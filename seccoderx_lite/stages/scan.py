"""The judge as a reviewer: every function of some files, against every weakness that fits.

Each function is asked about once a weakness, so that a finding names the weakness it is about. The
judge sees one function at a time: what depends on code elsewhere, it cannot know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seccoderx_lite.core import cwe as catalogue
from seccoderx_lite.core.errors import RecipeError
from seccoderx_lite.core.records import Language, Verdict
from seccoderx_lite.data.functions import Function, split_functions
from seccoderx_lite.data.source_files import Changes, LineSpan, Skipped, SourceFile, find_sources
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.judge.loading import LoadedJudge, in_batches, load_judge
from seccoderx_lite.judge.prompt import is_cut_for_judge
from seccoderx_lite.reporting.findings import Finding, ScanResult
from seccoderx_lite.run.progress import Progress, no_progress


@dataclass(frozen=True, slots=True)
class _Piece:
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
    progress: Progress = no_progress,
) -> ScanResult:
    """Judge the functions of source files and return the findings.

    Args:
        paths: files and folders.
        judge: a loaded judge, or the name of one as in `judge_loading`.
        cwe: weaknesses to look for; without, those that are typical of each language.
        since: a git reference; only functions with lines changed since then are judged.
        threshold: code at or above this probability is a finding, whatever the verdict.
        progress: is told how far it has come.

    Raises:
        DataError: a path does not exist, a weakness is no CWE id, or git does not know `since`.
        ModelError: the judge cannot be loaded.
    """
    wanted = tuple(catalogue.normalise(each) for each in cwe)
    pieces, result = _collect([Path(path) for path in paths], since)
    loaded = load_judge(judge) if isinstance(judge, str) else judge
    result.judge = loaded.name
    jobs: list[tuple[_Piece, CodeToJudge]] = []
    for piece in pieces:
        asked = wanted or catalogue.typical_of(piece.language)
        items = [CodeToJudge(piece.function.code, piece.language, (each,)) for each in asked]
        if reason := _unread(loaded, items):
            result.skipped.append(Skipped(piece.path, reason, piece.function.start_line))
        else:
            jobs += [(piece, item) for item in items]
    verdicts = _ask(loaded, [item for _, item in jobs], progress)
    for (piece, item), verdict in zip(jobs, verdicts, strict=True):
        _count(result, verdict)
        p = verdict.p_vulnerable
        if verdict.label == "vulnerable" or (p is not None and p >= threshold):
            result.findings.append(_finding(piece, item, verdict))
    return result


def _collect(paths: Sequence[Path], since: str | None) -> tuple[list[_Piece], ScanResult]:
    result, pieces = ScanResult(judge=""), []
    changes = Changes(since) if since is not None else None
    for source in find_sources(paths):
        if isinstance(source, Skipped):
            result.skipped.append(source)
            continue
        result.files += 1
        spans = changes.lines_of(source.path) if changes else None
        found = [f for f in _functions(source) if spans is None or _touches(f, spans)]
        pieces += [_Piece(source.path, source.language, function) for function in found]
    result.functions = len(pieces)
    if not pieces and not result.files and not result.skipped:
        raise RecipeError(
            f"PATH: no source file in {', '.join(map(str, paths))}; "
            "scan reads Python, JavaScript, C, C++, Java and Go"
        )
    return pieces, result


def _functions(source: SourceFile) -> list[Function]:
    return split_functions(source.code, source.language)


def _touches(function: Function, spans: Sequence[LineSpan]) -> bool:
    return any(low <= function.end_line and function.start_line <= high for low, high in spans)


def _unread(judge: LoadedJudge, items: Sequence[CodeToJudge]) -> str | None:
    """Why the judge would not read a function as a whole, with each of its weaknesses.

    One with a longer description leaves less room for the code.
    """
    recipe, function = judge.recipe, items[0]
    if recipe and is_cut_for_judge(
        function.code,
        function.language,
        strip_comments=recipe.strip_comments,
        max_code_chars=recipe.max_code_chars,
    ):
        return f"too long for the judge: it reads {recipe.max_code_chars} characters"
    return next(filter(None, map(judge.unreadable, items)), None)


def _ask(judge: LoadedJudge, items: Sequence[CodeToJudge], progress: Progress) -> list[Verdict]:
    verdicts: dict[int, Verdict] = {}
    progress("scan", 0, len(items), {})
    for batch in in_batches(items, judge.batch_size):
        given = judge.judge.verdicts([items[place] for place in batch])
        verdicts.update(zip(batch, given, strict=True))
        progress("scan", len(verdicts), len(items), {})
    return [verdicts[place] for place in range(len(items))]


def _count(result: ScanResult, verdict: Verdict) -> None:
    result.verdicts += 1
    result.unclear += verdict.label == "unclear"
    result.unscored += verdict.label is None


def _finding(piece: _Piece, item: CodeToJudge, verdict: Verdict) -> Finding:
    function = piece.function
    return Finding(
        path=piece.path,
        function=function.name,
        start_line=function.start_line,
        end_line=function.end_line,
        cwe=item.cwe[0],
        p_vulnerable=verdict.p_vulnerable,
        reasoning=verdict.reasoning,
        code=function.code,
    )
