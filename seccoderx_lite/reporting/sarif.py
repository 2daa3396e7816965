"""The result of a scan as a SARIF 2.1.0 log for code-scanning services.

It keeps to what GitHub accepts and shows: paths relative to the top of the repository, at most
25,000 results, a `help` text per rule, regions with columns, and a fingerprint per result that
stays the same when the code moves.
"""

import hashlib
import json
import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from seccoderx_lite.core import cwe
from seccoderx_lite.core.project import repository
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.git_changes import outermost_top
from seccoderx_lite.data.source_files import Skipped
from seccoderx_lite.reporting.findings import Finding, ScanResult
from seccoderx_lite.reporting.printable import encodable, reasoning_of
from seccoderx_lite.run.files import finite

SARIF_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
MAX_RESULTS = 25_000
"""GitHub rejects a log with more."""
_PRECISION = "medium"
"""Of every rule: how often a judge is right differs from judge to judge; `eval judge` measures."""


def as_sarif(result: ScanResult) -> str:
    """Return a SARIF 2.1.0 log.

    Paths are relative to the top of the git repository, without one to the working folder. If there
    are too many findings, the surest are kept and a notification counts the rest.
    """
    kept = _surest(result.findings)
    used = cwe.in_order([[finding.cwe for finding in kept]])
    top = _top(result)
    prints = _fingerprints(kept, top)
    run = {
        "tool": {
            "driver": {
                "name": "seccoderx-lite",
                "version": version("seccoderx-lite"),
                **({"informationUri": address} if (address := repository()) else {}),
                "rules": [_rule(identifier) for identifier in used],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    *_left_out(len(result.findings) - len(kept)),
                    *(_notification(each, top) for each in result.skipped),
                ],
            }
        ],
        "results": [
            _result(finding, used, fingerprint, top)
            for finding, fingerprint in zip(kept, prints, strict=True)
        ],
        "properties": {
            "judge": result.judge,
            "verdicts": result.verdicts,
            "unclear": result.unclear,
            "unscored": result.unscored,
            "findings": len(result.findings),
            "lines": {
                "total": result.lines.total,
                "judged": result.lines.judged,
                "skipped": dict(result.lines.skipped),
            },
        },
    }
    log = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return encodable(json.dumps(finite(log), indent=2, ensure_ascii=False))


def _surest(findings: list[Finding]) -> list[Finding]:
    """Return the findings that fit, in their order; those with the highest probability first."""
    if len(findings) <= MAX_RESULTS:
        return findings
    places = range(len(findings))
    best = sorted(places, key=lambda n: (-findings[n].certainty, -findings[n].severity, n))
    return [findings[place] for place in sorted(best[:MAX_RESULTS])]


def _left_out(count: int) -> list[dict[str, Json]]:
    if not count:
        return []
    text = (
        f"{count} findings with a lower probability are left out: code-scanning services accept at "
        f"most {MAX_RESULTS} results. Raise --fail-on, scan fewer folders, or use --format json."
    )
    return [{"level": "warning", "message": {"text": text}}]


def _rule(identifier: str) -> dict[str, Json]:
    entry = cwe.get(identifier)
    number = identifier.removeprefix("CWE-")
    uri = f"https://cwe.mitre.org/data/definitions/{number}.html"
    about = entry.description or entry.name
    return {
        "id": identifier,
        "name": re.sub(r"\W+", "", entry.short_name.title()) or identifier,
        "shortDescription": {"text": entry.short_name},
        "fullDescription": {"text": about},
        "help": {
            "text": f"{identifier}: {entry.name}. {about} A judge model reported it: read the "
            f"code before you change it. More: {uri}",
            "markdown": f"**[{identifier}]({uri}): {entry.name}**\n\n{about}\n\nA judge model "
            "reported it: read the code before you change it.",
        },
        "helpUri": uri,
        "defaultConfiguration": {"level": _level(identifier)},
        "properties": {
            "tags": ["security", f"external/cwe/cwe-{int(number):03}"],
            "precision": _PRECISION,
            "security-severity": f"{cwe.severity(identifier):.1f}",
        },
    }


def _level(identifier: str) -> str:
    return "error" if cwe.severity(identifier) >= 7 else "warning"


def _result(finding: Finding, used: list[str], fingerprint: str, top: Path) -> dict[str, Json]:
    name = encodable(finding.function)
    message = f"{name} may be vulnerable to {cwe.get(finding.cwe).short_name}."
    first, last = finding.columns
    region = {"startLine": finding.line, "startColumn": first, "endColumn": max(first, last)}
    location: dict[str, Json] = {
        "physicalLocation": {
            **_artifact(finding.path, top),
            "region": {**region, "endLine": finding.line},
        },
        "logicalLocations": [{"name": name, "kind": "function"}],
    }
    return {
        "ruleId": finding.cwe,
        "ruleIndex": used.index(finding.cwe),
        "level": _level(finding.cwe),
        "message": {"text": f"{message} {reasoning_of(finding)}".strip()},
        "locations": [location],
        "rank": round(100 * finding.certainty, 2),
        "partialFingerprints": {
            "primaryLocationLineHash": fingerprint,
            "functionAndWeakness/v1": fingerprint,
        },
        "properties": {
            "p_vulnerable": finding.p_vulnerable,
            "functionLines": [finding.start_line, finding.end_line],
            "security-severity": f"{finding.severity:.1f}",
        },
    }


def _fingerprints(findings: list[Finding], top: Path) -> list[str]:
    """Return per finding a hash that stays the same while its file, function and code do.

    Identical functions of a file are distinguished by a number, as GitHub does it: "HASH:2".
    """
    seen: Counter[str] = Counter()
    prints = []
    for finding in findings:
        parts = (_uri(finding.path, top), finding.function, finding.cwe, finding.code)
        name = hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]
        seen[name] += 1
        prints.append(f"{name}:{seen[name]}")
    return prints


def _notification(skipped: Skipped, top: Path) -> dict[str, Json]:
    location: dict[str, Json] = _artifact(skipped.path, top)
    if skipped.line:
        location["region"] = {"startLine": skipped.line}
    return {
        "level": "note",
        "message": {"text": f"skipped: {skipped.reason}"},
        "locations": [{"physicalLocation": location}],
    }


def _artifact(path: Path, top: Path) -> dict[str, Json]:
    return {"artifactLocation": {"uri": _uri(path, top)}}


def _top(result: ScanResult) -> Path:
    """Return the folder that paths are relative to.

    The repository of the working folder if it has any of the files, otherwise that of the first
    file; without a repository the working folder.
    """
    here = Path.cwd().resolve()
    paths = [finding.path.resolve() for finding in result.findings]
    paths += [skipped.path.resolve() for skipped in result.skipped]
    own = outermost_top(here)
    if own is not None and any(path.is_relative_to(own) for path in paths):
        return own
    return (outermost_top(paths[0].parent) if paths else own) or here


def _uri(path: Path, top: Path) -> str:
    """Return the path relative to `top`, links and ".." resolved; in full if it is not below."""
    full = path.resolve()
    if full.is_relative_to(top):
        return quote(full.relative_to(top).as_posix().encode("utf-8", "surrogateescape"))
    return "file://" + quote(full.as_posix().encode("utf-8", "surrogateescape"))
