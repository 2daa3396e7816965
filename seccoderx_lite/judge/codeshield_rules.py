"""The semgrep rules that the package `codeshield` ships, without those that semgrep cannot read."""

import json
from pathlib import Path

from seccoderx_lite.core.records import Json

BROKEN_RULES = {"java": ("ssrf_insecure_patterns",)}
"""Rules of CodeShield 1.0.1 that semgrep rejects; one such rule disables its whole language."""

FOLDER = Path("rules", "semgrep", "_generated_")
"""Folder of the rules below `codeshield/insecure_code_detector`, with one file per language."""

FILE_END = "_cyberseceval.json"


def read_rules(file: Path) -> dict[str, Json]:
    """Return the readable rules of one language from its file, `<language>_cyberseceval.json`."""
    config: dict[str, Json] = json.loads(file.read_text(encoding="utf-8"))
    broken = BROKEN_RULES.get(file.name.removesuffix(FILE_END), ())
    return {**config, "rules": [rule for rule in config["rules"] if rule["id"] not in broken]}
