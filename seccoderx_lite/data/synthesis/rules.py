"""Rules that drop a task before more is spent on it; each has its own reason."""

import functools
import re
from collections.abc import Mapping, Sequence

from seccoderx_lite.core import cwe
from seccoderx_lite.core.languages import language_of
from seccoderx_lite.core.records import Json, Language
from seccoderx_lite.recipe.synth import FilterRecipe

_NUMBER = re.compile(r"\b(?:CWE|CVE)[-\s_:]*\d", re.IGNORECASE)
_TELL_TALE = re.compile(
    r"""\b(?:
        vulnerab\w+ | weakness(?:es)? | insecure\w* | unsafe\w* | exploit(?:s|ed|ing|able|ation)?
      | attack(?:s|er|ers|ed|ing)? | malicious\w* | hack(?:s|er|ers|ing)? | untrusted | hostile
      | inject(?:ion|ions) | saniti[sz]\w+ | tamper\w* | spoof\w* | overflow(?:s|ed|ing)?
      | securely | secure\s+(?:code|coding|way|manner|version)
      | security\s+(?:hole|flaw|bug|risk|issue|problem|check|review|reason)s?
      | (?:XSS|CSRF|SSRF|XXE|RCE|SQLi|OWASP)
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
_ASKS_FOR_IT = re.compile(
    r"""\b(?:
        (?:without|skip(?:ping)?|omit(?:ting)?|disabl(?:e|ing)|ignor(?:e|ing)|no\ need\ (?:for|to)
          |(?:do\ not|don['\u2019]t|never|need\ not)(?:\ (?:do|add|use|perform|make))?)
        \s+(?:any\s+|the\s+|all\s+|input\s+|bounds?\s+|certificate\s+|ssl\s+|tls\s+)*
        (?:validat\w+|sanit\w+|escap(?:e|ing)|verif\w+|bounds?[ -]check\w*|check(?:s|ing)?
          |authenticat\w+|authori[sz]at\w+)
      | (?:intentionally|deliberately|purposely)\s+\w+
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def broken_rule(
    task: Mapping[str, Json], settings: FilterRecipe, languages: Sequence[Language]
) -> str | None:
    """Return why a drafted task is dropped, None if it breaks no rule."""
    prompt = task["prompt"]
    language = language_of(task["language"])
    if language is None:
        return "language is not known"
    if language not in languages:
        return "language is not one of the recipe's"
    if len(prompt) < settings.min_chars:
        return "prompt is too short"
    if len(prompt) > settings.max_chars:
        return "prompt is too long"
    return giveaway(prompt)


def giveaway(prompt: str) -> str | None:
    """Return how a prompt gives the weakness away or asks for it, None if it does neither.

    It matches words: it misses paraphrases, and drops harmless prompts that use such a word.

    >>> giveaway("Write a login form; mind SQL injection.")
    'prompt names a weakness'
    >>> giveaway("Fetch the page without verifying the certificate.")
    'prompt asks for insecurity'
    >>> giveaway("Return the user with this name.") is None
    True
    """
    if _NUMBER.search(prompt):
        return "prompt has a CWE or CVE number"
    if _names().search(prompt):
        return "prompt names a weakness"
    if _TELL_TALE.search(prompt):
        return "prompt has a tell-tale word"
    if _ASKS_FOR_IT.search(prompt):
        return "prompt asks for insecurity"
    return None


@functools.cache
def _names() -> re.Pattern[str]:
    """Names of weaknesses of two words or more: a single word has other meanings too."""
    names = {name for entry in cwe.catalogue() for name in (entry.name, entry.short_name)}
    names |= {bare for name in names for bare in re.findall(r"\('([^']+)'\)", name)}
    long = sorted((name for name in names if re.search(r"[\s-]", name)), key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, long)) + r")\b", re.IGNORECASE)
