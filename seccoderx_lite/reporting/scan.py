"""Print the result of a scan as text or JSON; SARIF is in `sarif`."""

import json
from collections.abc import Callable
from pathlib import Path

from seccoderx_lite.core import cwe
from seccoderx_lite.reporting.findings import Finding, ScanResult
from seccoderx_lite.reporting.printable import (
    encodable,
    printable,
    printable_path,
    reasoning_of,
)
from seccoderx_lite.reporting.sarif import as_sarif
from seccoderx_lite.run.files import finite


def as_text(result: ScanResult) -> str:
    """Return one paragraph per finding, then what was skipped, then the counts."""
    lines = [_paragraph(finding) for finding in result.findings]
    lines += [
        f"skipped {_place(each.path, each.line)}: {printable(each.reason)}"
        for each in result.skipped
    ]
    unsure = f", {result.unclear} unclear" if result.unclear else ""
    unsure += f", {result.unscored} unscored" if result.unscored else ""
    lines.append(
        f"{len(result.findings)} findings in {result.functions} functions of {result.files} files "
        f"({result.verdicts} verdicts{unsure}; {len(result.skipped)} skipped)"
    )
    lines += _line_counts(result)
    return "\n".join(lines)


def _line_counts(result: ScanResult) -> list[str]:
    count = result.lines
    total = (
        f"{count.total:,} lines: {count.judged:,} judged, {count.total - count.judged:,} skipped"
    )
    lines = [total + (":" if count.skipped else "")]
    lines += [
        f"  {number:>7,}  {printable(reason)}"
        for reason, number in sorted(count.skipped.items(), key=lambda item: -item[1])
    ]
    if result.passed_over:
        others = ", ".join(f"{number:,} {why}" for why, number in result.passed_over.items())
        lines.append(f"files passed over: {others}")
    return lines


def _paragraph(finding: Finding) -> str:
    span = f"{printable_path(finding.path)}:{finding.start_line}-{finding.end_line}"
    p = "" if finding.p_vulnerable is None else f" p={finding.p_vulnerable:.2f}"
    name = cwe.get(finding.cwe).short_name
    reasoning = reasoning_of(finding)
    return f"{span}: {finding.cwe} {name}{p} in {printable(finding.function)}" + (
        f"\n    {reasoning}" if reasoning else ""
    )


def _place(path: Path, line: int | None) -> str:
    return f"{printable_path(path)}:{line}" if line else printable_path(path)


def as_json(result: ScanResult) -> str:
    """Return findings, skipped places and counts as a JSON object."""
    data = {
        "judge": result.judge,
        "findings": [
            {
                "file": printable_path(finding.path, controls=True),
                "start_line": finding.start_line,
                "end_line": finding.end_line,
                "line": finding.line,
                "function": finding.function,
                "cwe": finding.cwe,
                "name": cwe.get(finding.cwe).short_name,
                "severity": finding.severity,
                "p_vulnerable": finding.p_vulnerable,
                "reasoning": reasoning_of(finding),
            }
            for finding in result.findings
        ],
        "skipped": [
            {
                "file": printable_path(each.path, controls=True),
                "line": each.line,
                "reason": each.reason,
            }
            for each in result.skipped
        ],
        "files": result.files,
        "functions": result.functions,
        "verdicts": result.verdicts,
        "unclear": result.unclear,
        "unscored": result.unscored,
        "lines": {
            "total": result.lines.total,
            "judged": result.lines.judged,
            "skipped": dict(result.lines.skipped),
        },
        "passed_over": dict(result.passed_over),
    }
    return encodable(json.dumps(finite(data), indent=2, ensure_ascii=False))


FORMATS: dict[str, Callable[[ScanResult], str]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
}
