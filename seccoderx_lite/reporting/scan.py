"""Print the result of a scan as text, JSON or SARIF 2.1.0."""

import hashlib
import json
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from seccoderx_lite.core import cwe
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.source_files import Skipped
from seccoderx_lite.reporting.findings import Finding, ScanResult
from seccoderx_lite.run.files import finite

SARIF_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_REASONING_CHARS = 1000


def as_text(result: ScanResult) -> str:
    """Return one paragraph per finding, then what was skipped, then the counts."""
    lines = [_paragraph(finding) for finding in result.findings]
    lines += [f"skipped {printable(_place(each))}: {each.reason}" for each in result.skipped]
    unsure = f", {result.unclear} unclear" if result.unclear else ""
    unsure += f", {result.unscored} unscored" if result.unscored else ""
    lines.append(
        f"{len(result.findings)} findings in {result.functions} functions of {result.files} files "
        f"({result.verdicts} verdicts{unsure}; {len(result.skipped)} skipped)"
    )
    return "\n".join(lines)


def printable(text: str) -> str:
    r"""Return a text with control characters escaped, which a terminal would obey.

    >>> print(printable("a" + chr(27) + "[2J.py"))
    a\x1b[2J.py
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _paragraph(finding: Finding) -> str:
    span = f"{printable(str(finding.path))}:{finding.start_line}-{finding.end_line}"
    p = "" if finding.p_vulnerable is None else f" p={finding.p_vulnerable:.2f}"
    name = cwe.get(finding.cwe).short_name
    reasoning = printable(_reasoning(finding))
    return f"{span}: {finding.cwe} {name}{p} in {printable(finding.function)}" + (
        f"\n    {reasoning}" if reasoning else ""
    )


def _place(skipped: Skipped) -> str:
    return f"{skipped.path}:{skipped.line}" if skipped.line else str(skipped.path)


def _reasoning(finding: Finding) -> str:
    """Return the judge's reasoning on one line, without tags and verdict."""
    text = re.sub(r"<answer>.*?(</answer>|\Z)|</?think>", " ", finding.reasoning, flags=re.DOTALL)
    return " ".join(text.split())[:_REASONING_CHARS]


def _encodable(path: Path) -> str:
    """Return a path as text; bytes that are not UTF-8 are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def as_json(result: ScanResult) -> str:
    """Return findings, skipped places and counts as a JSON object."""
    data = {
        "judge": result.judge,
        "findings": [
            {
                "file": _encodable(finding.path),
                "start_line": finding.start_line,
                "end_line": finding.end_line,
                "function": finding.function,
                "cwe": finding.cwe,
                "name": cwe.get(finding.cwe).short_name,
                "p_vulnerable": finding.p_vulnerable,
                "reasoning": _reasoning(finding),
            }
            for finding in result.findings
        ],
        "skipped": [
            {"file": _encodable(each.path), "line": each.line, "reason": each.reason}
            for each in result.skipped
        ],
        "files": result.files,
        "functions": result.functions,
        "verdicts": result.verdicts,
        "unclear": result.unclear,
        "unscored": result.unscored,
    }
    return json.dumps(finite(data), indent=2, ensure_ascii=False)


def as_sarif(result: ScanResult) -> str:
    """Return a SARIF 2.1.0 log for code-scanning services.

    Paths below the working folder are relative to it, so run the scan in the root of the project.
    """
    used = cwe.in_order([[finding.cwe for finding in result.findings]])
    run = {
        "tool": {
            "driver": {
                "name": "seccoderx-lite",
                "version": version("seccoderx-lite"),
                "rules": [_rule(identifier) for identifier in used],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [_notification(each) for each in result.skipped],
            }
        ],
        "results": [_result(finding, used) for finding in result.findings],
        "properties": {
            "judge": result.judge,
            "verdicts": result.verdicts,
            "unclear": result.unclear,
            "unscored": result.unscored,
        },
    }
    log = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(finite(log), indent=2, ensure_ascii=False)


def _rule(identifier: str) -> dict[str, Json]:
    entry = cwe.get(identifier)
    number = identifier.removeprefix("CWE-")
    return {
        "id": identifier,
        "name": re.sub(r"\W+", "", entry.short_name.title()) or identifier,
        "shortDescription": {"text": entry.short_name},
        "fullDescription": {"text": entry.description or entry.name},
        "helpUri": f"https://cwe.mitre.org/data/definitions/{number}.html",
        "defaultConfiguration": {"level": "warning"},
        "properties": {"tags": ["security", f"external/cwe/cwe-{int(number):03}"]},
    }


def _result(finding: Finding, used: list[str]) -> dict[str, Json]:
    message = f"{finding.function} may be vulnerable to {cwe.get(finding.cwe).short_name}."
    location: dict[str, Json] = {
        "physicalLocation": {
            **_artifact(finding.path),
            "region": {"startLine": finding.start_line, "endLine": finding.end_line},
        },
        "logicalLocations": [{"name": finding.function, "kind": "function"}],
    }
    return {
        "ruleId": finding.cwe,
        "ruleIndex": used.index(finding.cwe),
        "level": "warning",
        "message": {"text": f"{message} {_reasoning(finding)}".strip()},
        "locations": [location],
        "rank": round(100 * finding.certainty, 2),
        "partialFingerprints": {"functionAndWeakness/v1": _fingerprint(finding)},
        "properties": {"p_vulnerable": finding.p_vulnerable},
    }


def _fingerprint(finding: Finding) -> str:
    """Return a hash that stays the same while the function and its path do."""
    parts = (_uri(finding.path), finding.function, finding.cwe, finding.code)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]


def _notification(skipped: Skipped) -> dict[str, Json]:
    location: dict[str, Json] = _artifact(skipped.path)
    if skipped.line:
        location["region"] = {"startLine": skipped.line}
    return {
        "level": "note",
        "message": {"text": f"skipped: {skipped.reason}"},
        "locations": [{"physicalLocation": location}],
    }


def _artifact(path: Path) -> dict[str, Json]:
    return {"artifactLocation": {"uri": _uri(path)}}


def _uri(path: Path) -> str:
    """Return a path relative to the working folder if the file is below it."""
    full = path.absolute()
    if full.is_relative_to(Path.cwd()):
        return quote(full.relative_to(Path.cwd()).as_posix().encode("utf-8", "surrogateescape"))
    return "file://" + quote(full.as_posix().encode("utf-8", "surrogateescape"))


FORMATS: dict[str, Callable[[ScanResult], str]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
}
