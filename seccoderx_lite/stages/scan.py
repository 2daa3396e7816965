"""Review source files: the judge reads each function, once per weakness.

One weakness per question, so that a finding names its weakness. The judge sees one function at a
time: it cannot know what depends on code elsewhere. Every line of the files is judged or counted as
skipped with its reason.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seccoderx_lite.core import cwe as catalogue
from seccoderx_lite.core.errors import JudgeError, RecipeError
from seccoderx_lite.core.records import Verdict
from seccoderx_lite.data.functions import Function, split_functions
from seccoderx_lite.data.git_changes import Changes, LineSpan, NotComparable
from seccoderx_lite.data.source_files import Skipped, SourceFile, find_sources
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.judge.loading import LoadedJudge, in_batches, load_judge
from seccoderx_lite.judge.prompt import is_cut_for_judge
from seccoderx_lite.reporting.findings import Finding, LineCount, ScanResult
from seccoderx_lite.run.progress import Progress, default_progress
from seccoderx_lite.training.judge_probe import check_that_it_tells_apart

_CALLS_NOTHING = "blank lines, comments, and code outside functions that calls nothing"
_NO_VERDICT = "the judge gave no verdict"
_QUOTED = re.compile(r"`([^`\n]{4,})`")


@dataclass(slots=True)
class _File:
    """A file of the scan, and what happened to its lines."""

    source: SourceFile
    texts: list[str]
    skipped: dict[int, str] = field(default_factory=dict)
    """Reason by line."""
    judged: set[int] = field(default_factory=set)

    def skip(self, lines: Iterable[int], reason: str) -> None:
        self.skipped.update(dict.fromkeys(lines, reason))

    def count(self) -> LineCount:
        numbers = range(1, self.source.lines + 1)
        others = [number for number in numbers if number not in self.judged]
        reasons = Counter(self.skipped.get(number, _CALLS_NOTHING) for number in others)
        return LineCount(len(numbers), len(numbers) - len(others), reasons)


@dataclass(frozen=True, slots=True)
class _Piece:
    file: _File
    function: Function


@dataclass(slots=True)
class _Work:
    """What a scan has to do, and what it leaves out."""

    files: list[_File] = field(default_factory=list)
    pieces: list[_Piece] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)

    def skip(self, piece: _Piece, reason: str) -> None:
        lines = piece.function.lines
        piece.file.skip(lines, _kind(reason))
        place = piece.file.source.path
        self.skipped.append(Skipped(place, reason, lines[0], len(lines)))

    def line_count(self) -> LineCount:
        counts = [file.count() for file in self.files]
        whole = [each for each in self.skipped if each.line is None]
        reasons = Counter({_kind(each.reason): 0 for each in whole})
        for each in whole:
            reasons[_kind(each.reason)] += each.lines
        for count in counts:
            reasons.update(count.skipped)
        judged = sum(count.judged for count in counts)
        return LineCount(judged + reasons.total(), judged, dict(+reasons))


def scan(
    paths: Sequence[Path | str],
    judge: LoadedJudge | str | Callable[[], LoadedJudge],
    *,
    cwe: Sequence[str] = (),
    since: str | None = None,
    threshold: float = 0.5,
    progress: Progress | None = None,
) -> ScanResult:
    """Judge the functions of source files and return the findings.

    Args:
        paths: files and folders.
        judge: a loaded judge, a name that `judge.loading` accepts, or a function that loads one
            and is called when there is something to judge.
        cwe: weaknesses to look for (default: the typical ones of each language).
        since: a git reference; only functions with lines changed since then are judged.
        threshold: code at or above this probability is a finding, whatever the verdict.
        progress: called after each batch of verdicts.

    Raises:
        DataError: a path does not exist, a weakness is not a CWE id, or git does not know `since`.
        ModelError: the judge cannot be loaded.
        JudgeError: the judge gave no verdict on any of the code, or none that can be read.
        RecipeError: there is no source file at or below the paths.
    """
    wanted = catalogue.in_order(catalogue.ids_in(each) for each in cwe)
    work = _find([Path(path) for path in paths], since)
    loaded = _load(judge)
    questions = _questions(work, wanted, loaded)
    verdicts = _verdicts(loaded, [item for _, item in questions], progress or default_progress())
    labels = [verdict.label for verdict in verdicts]
    _check_that_it_answers(loaded, verdicts)
    if labels:
        check_that_it_tells_apart(loaded, labels)
    _count_judged([piece for piece, _ in questions], verdicts)
    findings = [
        _finding(piece, item.cwe[0], verdict)
        for (piece, item), verdict in zip(questions, verdicts, strict=True)
        if _is_finding(verdict, threshold)
    ]
    return ScanResult(
        judge=loaded.name,
        findings=findings,
        skipped=work.skipped,
        files=len(work.files),
        functions=len(work.pieces),
        verdicts=len(labels),
        unclear=labels.count("unclear"),
        unscored=labels.count(None),
        lines=work.line_count(),
        passed_over=dict(+work.passed_over),
    )


def _load(judge: LoadedJudge | str | Callable[[], LoadedJudge]) -> LoadedJudge:
    if isinstance(judge, LoadedJudge):
        return judge
    return load_judge(judge) if isinstance(judge, str) else judge()


def _find(paths: Sequence[Path], since: str | None) -> _Work:
    """Return the functions to judge, and what is left out."""
    work = _Work()
    changes = Changes(since) if since is not None else None
    for source in find_sources(paths, work.passed_over):
        if isinstance(source, Skipped):
            work.skipped.append(source)
            continue
        try:
            spans = changes.lines_of(source.path, source.root) if changes else None
        except NotComparable as reason:
            work.skipped.append(Skipped(source.path, str(reason), lines=source.lines))
            continue
        work.files.append(_File(source, source.code.split("\n")))
        _add_pieces(work, spans, f"functions unchanged since {since}")
    if not work.files and not work.skipped:
        others = "".join(f"; {n} files {why}" for why, n in (+work.passed_over).items())
        raise RecipeError(
            f"PATH: no source file in {', '.join(map(str, paths))}{others}. "
            "scan reads Python, JavaScript, TypeScript, C, C++, Java and Go"
        )
    return work


def _add_pieces(work: _Work, spans: Sequence[LineSpan] | None, unchanged: str) -> None:
    """Add the functions of the last file; of those without a changed line only the lines."""
    file = work.files[-1]
    for function in split_functions(file.source.code, file.source.language):
        if spans is None or _touches(function, spans):
            work.pieces.append(_Piece(file, function))
        else:
            file.skip(function.lines, unchanged)


def _touches(function: Function, spans: Sequence[LineSpan]) -> bool:
    near = [(low, high) for low, high in spans if low <= function.end_line]
    return any(low <= line <= high for low, high in near for line in function.lines)


def _questions(
    work: _Work, wanted: Sequence[str], judge: LoadedJudge
) -> list[tuple[_Piece, CodeToJudge]]:
    """Return each function with each of its weaknesses; functions the judge cannot read skip."""
    questions: list[tuple[_Piece, CodeToJudge]] = []
    for piece in work.pieces:
        language = piece.file.source.language
        asked = wanted or catalogue.typical_of(language)
        items = [CodeToJudge(piece.function.code, language, (id_,)) for id_ in asked]
        if reason := _unreadable(judge, items):
            work.skip(piece, reason)
        else:
            questions += [(piece, item) for item in items]
    return questions


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


def _kind(reason: str) -> str:
    """Return a reason without what differs from case to case, for counting.

    >>> _kind("too long for the judge: 3000 tokens, its limit is 1800")
    'too long for the judge'
    """
    return re.split(r":| \(|, ", reason)[0]


def _verdicts(
    judge: LoadedJudge, items: Sequence[CodeToJudge], progress: Progress
) -> list[Verdict]:
    verdicts: dict[int, Verdict] = {}
    progress("scan", 0, len(items), {})
    for batch in in_batches(items, judge.batch_size):
        given = judge.judge.verdicts([items[place] for place in batch])
        verdicts.update(zip(batch, map(_scored, given), strict=True))
        progress("scan", len(verdicts), len(items), {})
    return [verdicts[place] for place in range(len(items))]


def _scored(verdict: Verdict) -> Verdict:
    """Return the verdict; without a label if its probability is not a number."""
    p = verdict.p_vulnerable
    if p is None or math.isfinite(p):
        return verdict
    return Verdict(None, error=f"the judge's probability is {p}")


def _check_that_it_answers(judge: LoadedJudge, verdicts: Sequence[Verdict]) -> None:
    """Raise if there is not one verdict: nothing was reviewed, whatever the report would say."""
    if not verdicts or any(verdict.label in ("vulnerable", "safe") for verdict in verdicts):
        return
    reasons = Counter(verdict.error for verdict in verdicts if verdict.error)
    why = f": {reasons.most_common(1)[0][0]}" if reasons else ""
    raise JudgeError(
        f"{judge.name} gave no verdict on any of {len(verdicts)} questions{why}. Nothing was "
        "reviewed; measure the judge with eval judge"
    )


def _count_judged(pieces: Sequence[_Piece], verdicts: Sequence[Verdict]) -> None:
    """Count the lines of each piece as judged if it has at least one verdict."""
    for piece, verdict in zip(pieces, verdicts, strict=True):
        if verdict.label is None:
            piece.file.skip(piece.function.lines, _NO_VERDICT)
        else:
            piece.file.judged.update(piece.function.lines)


def _is_finding(verdict: Verdict, threshold: float) -> bool:
    p = verdict.p_vulnerable
    return verdict.label == "vulnerable" or (p is not None and p >= threshold)


def _finding(piece: _Piece, cwe: str, verdict: Verdict) -> Finding:
    function = piece.function
    line = _line(function, verdict)
    text = piece.file.texts[line - 1].rstrip() if line <= len(piece.file.texts) else ""
    return Finding(
        path=piece.file.source.path,
        function=function.name,
        start_line=function.start_line,
        end_line=function.end_line,
        cwe=cwe,
        p_vulnerable=verdict.p_vulnerable,
        reasoning=verdict.reasoning,
        code=function.code,
        line=line,
        columns=(len(text) - len(text.lstrip()) + 1, len(text) + 1),
    )


def _line(function: Function, verdict: Verdict) -> int:
    """Return the line that the judge points at or quotes, otherwise that of the signature."""
    if verdict.line is not None and 1 <= verdict.line <= len(function.lines):
        return function.lines[verdict.line - 1]
    texts = function.code.split("\n")
    for quote in _QUOTED.findall(verdict.reasoning):
        places = [n for n, text in enumerate(texts) if quote.strip() and quote.strip() in text]
        if len(places) == 1:
            return function.lines[places[0]]
    return function.signature_line
