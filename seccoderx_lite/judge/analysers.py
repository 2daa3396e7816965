"""Static analysers as judges: baselines for a trained judge.

`bandit` reads Python with its own rules. `semgrep` reads all languages but Go with the rules that
the package `codeshield` ships, so nothing is downloaded. Codeshield's regular expressions are not
used, and neither are the rules that semgrep cannot read (see `codeshield_rules`).
Both belong to the extra `analysers`.

Code is vulnerable if a tool finds one of the weaknesses asked about, or a parent or child of one.
The tools only parse the code, but they run in the sandbox because it is untrusted. Code that a tool
cannot parse or has no rules for is unscored: neither vulnerable nor safe.
"""

import importlib.metadata
import importlib.util
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError, JudgeError
from seccoderx_lite.core.extras import install_command
from seccoderx_lite.core.languages import FILE_SUFFIXES
from seccoderx_lite.core.records import ExecutionResult, Json, Language, Verdict
from seccoderx_lite.judge import codeshield_rules
from seccoderx_lite.judge.judge import CodeToJudge
from seccoderx_lite.sandbox import Limits, Sandbox

AnalyserName = Literal["bandit", "semgrep"]
ANALYSERS: tuple[AnalyserName, ...] = ("bandit", "semgrep")

_LIMITS = Limits(timeout_s=120.0, memory_mb=4096, output_bytes=16 << 20, processes=64)
_PACKAGES = {
    "bandit": ("bandit", "stevedore", "yaml", "rich", "markdown_it", "mdurl", "pygments"),
    "semgrep": ("semgrep", "codeshield", "certifi"),
}
_VERSIONED: dict[str, tuple[str, ...]] = {
    "bandit": ("bandit",),
    "semgrep": ("semgrep", "codeshield"),
}
_BANDIT = "import sys; sys.path[:0] = sys.argv[1].split(':'); del sys.argv[1]\n"
_BANDIT += "from bandit.cli.main import main; main()"
_RULES = "rules.json"


@dataclass(frozen=True, slots=True)
class ToolFinding:
    """A weakness that a tool reports."""

    cwe: str | None
    line: int
    message: str


FileReport = list[ToolFinding] | str
"""A tool's findings in one file, or the reason why it could not read the file."""


class Analyser:
    """A static analyser used as a judge."""

    batch_size = 64

    def __init__(self, name: AnalyserName) -> None:
        """Find the tool.

        Raises:
            JudgeError: a package of the tool is not installed.
        """
        missing = [p for p in _PACKAGES[name] if importlib.util.find_spec(p) is None]
        if missing:
            raise JudgeError(
                f"{name}: the package {missing[0]} is not installed; install it with: "
                f"{install_command('analysers')}"
            )
        self._name = name
        self.identity: dict[str, Json] = {
            "analyser": name,
            "versions": {p: importlib.metadata.version(p) for p in _VERSIONED[name]},
        }

    @cached_property
    def sandbox(self) -> Sandbox:
        """Where the tool runs: it can read its own folders and the code, nothing else."""
        return Sandbox("confined", workers=1, limits=_LIMITS, readable=_folders(self._name))

    def verdicts(self, items: Sequence[CodeToJudge]) -> list[Verdict]:
        """Return one verdict per item, in order."""
        found: dict[CodeToJudge, FileReport] = {}
        for language in dict.fromkeys(item.language for item in items):
            same = [item for item in dict.fromkeys(items) if item.language == language]
            found |= dict(zip(same, self._reports(same, language), strict=True))
        return [verdict_of(item, found[item]) for item in items]

    def _reports(self, items: Sequence[CodeToJudge], language: Language) -> list[FileReport]:
        """Return one report per item. If the tool fails on the batch, it runs once per item."""
        if self._name == "bandit" and language != "python":
            return ["bandit reads Python only" for _ in items]
        if self._name == "semgrep" and not _rules(language).is_file():
            return [f"there are no rules for {language}" for _ in items]
        if self._name == "semgrep" and len(items) > 1:  # semgrep-core reads one file at a time
            return [self._reports([item], language)[0] for item in items]
        names = [f"code{number:04}.{FILE_SUFFIXES[language]}" for number in range(len(items))]
        # A single method is indented, which is a syntax error in Python.
        code = [textwrap.dedent(item.code) for item in items]
        files = dict(zip(names, code, strict=True))
        if self._name == "semgrep":
            files[_RULES] = json.dumps(codeshield_rules.read_rules(_rules(language)))
        result = self.sandbox.run(files, self._command(language), _LIMITS)
        try:
            by_name = (read_bandit if self._name == "bandit" else read_semgrep)(_json(result))
        except DataError as error:
            if len(items) == 1:
                return [str(error)]
            return [self._reports([item], language)[0] for item in items]
        if others := by_name.keys() - set(names):  # an error in the rules, not in the code
            return [str(by_name[min(others)]) for _ in items]
        return [by_name.get(name, []) for name in names]

    def _command(self, language: Language) -> list[str]:
        if self._name == "bandit":
            site = ":".join(_folders("bandit"))
            program = [self.sandbox.python, "-I", "-S", "-B", "-c", _BANDIT, site]
            return [*program, "--quiet", "--format", "json", "--recursive", "."]
        core = _package("semgrep") / "bin" / "semgrep-core"
        # It does not start without TLS certificates, even though it has no network.
        environment = ["/usr/bin/env", f"SSL_CERT_FILE={_package('certifi') / 'cacert.pem'}"]
        rules = ["-rules", _RULES, "-lang", language]
        options = ["-j", "1", "-timeout", "10", "-json"]
        return [*environment, str(core), *rules, *options, f"code0000.{FILE_SUFFIXES[language]}"]


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def _rules(language: Language) -> Path:
    """File of CodeShield's rules for a language; it has none for Go."""
    folder = _package("codeshield") / "insecure_code_detector" / codeshield_rules.FOLDER
    return folder / f"{language}{codeshield_rules.FILE_END}"


def _folders(name: AnalyserName) -> list[str]:
    """The folders that the tool must be able to read."""
    if name == "semgrep":
        return [str(_package(package)) for package in _PACKAGES[name]]
    return list(dict.fromkeys(str(_package(package).parent) for package in _PACKAGES[name]))


def _json(result: ExecutionResult) -> Mapping[str, Json]:
    """The report that the tool printed; DataError if it printed something else."""
    text = result.stdout[result.stdout.find("{") :]
    try:
        report = json.loads(text)
    except ValueError as error:
        last_line = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise DataError(f"the tool ended with {result.status}: {last_line:.200}") from error
    if not isinstance(report, Mapping):
        raise DataError("the tool's report is not a JSON object")
    return report


def read_bandit(report: Mapping[str, Json]) -> dict[str, FileReport]:
    found: dict[str, FileReport] = {}
    for entry in report["results"]:
        number = entry.get("issue_cwe", {}).get("id")
        finding = ToolFinding(
            cwe=f"CWE-{number}" if number else None,
            line=entry["line_number"],
            message=f"{entry['test_id']} {entry['issue_text']}",
        )
        _add(found, Path(entry["filename"]).name, finding)
    for entry in report["errors"]:
        found[Path(entry["filename"]).name] = f"bandit: {entry['reason']}"
    return found


def read_semgrep(report: Mapping[str, Json]) -> dict[str, FileReport]:
    found: dict[str, FileReport] = {}
    for entry in report["results"]:
        metadata = entry["extra"]["metadata"]
        named = metadata.get("cwe_id") or metadata.get("cwe")
        identifier = named[0] if isinstance(named, list) else named
        finding = ToolFinding(
            cwe=cwe.normalise(identifier) if identifier else None,
            line=entry["start"]["line"],
            message=f"{entry['check_id']}: {entry['extra']['message']}",
        )
        _add(found, Path(entry["path"]).name, finding)
    for entry in report["errors"]:
        path = (entry.get("location") or {}).get("path") or entry.get("path") or ""
        found[Path(path).name] = f"semgrep: {entry.get('message', 'error')}"
    return found


def _add(found: dict[str, FileReport], name: str, finding: ToolFinding) -> None:
    findings = found.setdefault(name, [])
    if isinstance(findings, list):
        findings.append(finding)


def verdict_of(item: CodeToJudge, report: FileReport) -> Verdict:
    if isinstance(report, str):
        return Verdict(None, error=report)
    text = "\n".join(f"line {f.line}: {f.cwe or 'no CWE'}: {f.message}" for f in report)
    lines = [finding.line for finding in report if concerns(finding.cwe, item.cwe)]
    if not lines:
        return Verdict("safe", text)
    return Verdict("vulnerable", text, line=min(lines))


def concerns(found: str | None, weaknesses: Sequence[str]) -> bool:
    """True if a finding is about one of the weaknesses; any finding is if none are given."""
    if not weaknesses:
        return True
    return found is not None and any(cwe.is_same_or_kin(found, each) for each in weaknesses)
