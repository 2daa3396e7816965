"""The semgrep rules that the package `codeshield` ships, without those that semgrep cannot read."""

import json
from pathlib import Path

from seccoderx_lite.core.records import Json

BROKEN_RULES = {"java": ("ssrf_insecure_patterns",)}
"""Rules of CodeShield 1.0.1 that no semgrep can read; one of them disables all of its language."""

FOLDER = Path("rules", "semgrep", "_generated_")
"""Where the rules lie below `codeshield/insecure_code_detector`: a file a language."""

ENDING = "_cyberseceval.json"


def read_rules(file: Path) -> dict[str, Json]:
    """Return the rules of one language, `<language>_cyberseceval.json`, that can be read."""
    config: dict[str, Json] = json.loads(file.read_text(encoding="utf-8"))
    broken = BROKEN_RULES.get(file.name.removesuffix(ENDING), ())
    return {**config, "rules": [rule for rule in config["rules"] if rule["id"] not in broken]}
