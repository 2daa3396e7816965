"""Static analysers as judges: the baselines that a trained judge is compared with.

`bandit` reads Python with its own rules. `semgrep` reads all languages but Go with the rules that
the package `codeshield` ships, so nothing is fetched; the regular expressions beside them are not
used, nor is a rule of it for Java that semgrep cannot read (see `codeshield_rules`).
Both come with `pip install 'seccoderx-lite[analysers]'`.

Code is vulnerable if there is a finding of a weakness that was asked about, of its parent or of its
child. The tools only parse the code, but it is hostile, so they run in the sandbox. What a tool
cannot parse or has no rules for is unscored: neither wrong nor safe.
"""

import importlib.metadata
import importlib.util
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError, JudgeError
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
_BANDIT = "import sys; sys.path[:0] = sys.argv[1].split(':'); del sys.argv[1]\n"
_BANDIT += "from bandit.cli.main import main; main()"
_RULES = "rules.json"


@dataclass(frozen=True, slots=True)
class ToolFinding:
    """One complaint of a tool."""

    cwe: str | None
    line: int
    message: str


Report = list[ToolFinding] | str
"""What a tool says about one file: findings, or why it could not read it."""


class Analyser:
    """A static analyser in the place of a judge."""

    batch_size = 64

    def __init__(self, name: AnalyserName) -> None:
        """Find the tool.

        Raises:
            JudgeError: it is not installed.
        """
        missing = [p for p in _PACKAGES[name] if importlib.util.find_spec(p) is None]
        if missing:
            raise JudgeError(
                f"{name}: the package {missing[0]} is not installed; "
                "pip install 'seccoderx-lite[analysers]'"
            )
        self._name = name
        self.identity: dict[str, Json] = {
            "analyser": name,
            "versions": {p: importlib.metadata.version(p) for p in _VERSIONED[name]},
        }

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox("confined", workers=1, limits=_LIMITS, readable=_folders(self._name))

    def verdicts(self, items: Sequence[CodeToJudge]) -> list[Verdict]:
        """Return one verdict a piece of code, in order."""
        found: dict[CodeToJudge, Report] = {}
        for language in dict.fromkeys(item.language for item in items):
            same = [item for item in dict.fromkeys(items) if item.language == language]
            found |= dict(zip(same, self._reports(same, language), strict=True))
        return [verdict_of(item, found[item]) for item in items]

    def _reports(self, items: Sequence[CodeToJudge], language: Language) -> list[Report]:
        """What the tool says about each; a batch that fails as a whole is asked one by one."""
        if self._name == "bandit" and language != "python":
            return ["bandit reads Python only" for _ in items]
        if self._name == "semgrep" and not _rules(language).is_file():
            return [f"there are no rules for {language}" for _ in items]
        if self._name == "semgrep" and len(items) > 1:  # its core takes one file at a time
            return [self._reports([item], language)[0] for item in items]
        names = [f"code{number:04}.{FILE_SUFFIXES[language]}" for number in range(len(items))]
        # A method on its own is indented, which no parser of Python takes.
        code = [textwrap.dedent(item.code) for item in items]
        files = dict(zip(names, code, strict=True))
        if self._name == "semgrep":
            files[_RULES] = json.dumps(codeshield_rules.read_rules(_rules(language)))
        result = self._sandbox.run(files, self._command(language), _LIMITS)
        try:
            by_name = (read_bandit if self._name == "bandit" else read_semgrep)(_json(result))
        except DataError as error:
            if len(items) == 1:
                return [str(error)]
            return [self._reports([item], language)[0] for item in items]
        if others := by_name.keys() - set(names):  # a fault of the rules, not of the code
            return [str(by_name[min(others)]) for _ in items]
        return [by_name.get(name, []) for name in names]

    def _command(self, language: Language) -> list[str]:
        if self._name == "bandit":
            site = ":".join(_folders("bandit"))
            program = [self._sandbox.python, "-I", "-S", "-B", "-c", _BANDIT, site]
            return [*program, "--quiet", "--format", "json", "--recursive", "."]
        core = _package("semgrep") / "bin" / "semgrep-core"
        # It refuses to start without trust anchors, though it has no network to use them on.
        environment = ["/usr/bin/env", f"SSL_CERT_FILE={_package('certifi') / 'cacert.pem'}"]
        rules = ["-rules", _RULES, "-lang", language]
        options = ["-j", "1", "-timeout", "10", "-json"]
        return [*environment, str(core), *rules, *options, f"code0000.{FILE_SUFFIXES[language]}"]


_VERSIONED: dict[str, tuple[str, ...]] = {
    "bandit": ("bandit",),
    "semgrep": ("semgrep", "codeshield"),
}


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def _rules(language: Language) -> Path:
    """CodeShield's rules for a language; there are none for Go."""
    folder = _package("codeshield") / "insecure_code_detector" / codeshield_rules.FOLDER
    return folder / f"{language}{codeshield_rules.ENDING}"


def _folders(name: AnalyserName) -> list[str]:
    """The folders the tool has to read."""
    if name == "semgrep":
        return [str(_package(package)) for package in _PACKAGES[name]]
    return list(dict.fromkeys(str(_package(package).parent) for package in _PACKAGES[name]))


def _json(result: ExecutionResult) -> Mapping[str, Json]:
    """What the tool printed; DataError if that is not its report."""
    text = result.stdout[result.stdout.find("{") :]
    try:
        report = json.loads(text)
    except ValueError as error:
        told = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise DataError(f"the tool ended with {result.status}: {told:.200}") from error
    if not isinstance(report, Mapping):
        raise DataError("the tool's report is no object")
    return report


def read_bandit(report: Mapping[str, Json]) -> dict[str, Report]:
    found: dict[str, Report] = {}
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


def read_semgrep(report: Mapping[str, Json]) -> dict[str, Report]:
    found: dict[str, Report] = {}
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


def _add(found: dict[str, Report], name: str, finding: ToolFinding) -> None:
    findings = found.setdefault(name, [])
    if isinstance(findings, list):
        findings.append(finding)


def verdict_of(item: CodeToJudge, report: Report) -> Verdict:
    if isinstance(report, str):
        return Verdict(None, error=report)
    told = "\n".join(f"line {f.line}: {f.cwe or 'no CWE'}: {f.message}" for f in report)
    hits = [f for f in report if _concerns(f, item.cwe)]
    return Verdict("vulnerable" if hits else "safe", told)


def _concerns(finding: ToolFinding, asked: Iterable[str]) -> bool:
    """Whether a finding is of a weakness asked about; with none asked about, every one is."""
    weaknesses = list(asked)
    if not weaknesses:
        return True
    known = finding.cwe
    return known is not None and any(cwe.is_same_or_kin(known, each) for each in weaknesses)
