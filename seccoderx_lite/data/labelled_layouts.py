"""The layouts of labelled code: our own and the published ones."""

import re
from functools import partial
from pathlib import Path

from seccoderx_lite.core.records import Json, LabelledCode
from seccoderx_lite.data import seccodeplt
from seccoderx_lite.data.columns import (
    Layout,
    UnusableRow,
    read_cwes,
    read_label,
    read_language,
    read_optional_text,
    read_pair,
    read_rest,
    read_text,
)
from seccoderx_lite.data.rows import Row
from seccoderx_lite.data.source_files import language_of_source


def _own_labelled(row: Row, language: str = "language") -> list[LabelledCode]:
    data = row.data
    return [
        LabelledCode(
            code=read_text(data, "code"),
            language=read_language(data[language]),
            cwe=read_cwes(data["cwe"]),
            is_vulnerable=read_label(data["is_vulnerable"]),
            pair=read_pair(data.get("pair")),
            reasoning=read_optional_text(data, "reasoning"),
            extra=read_rest(data, "code", language, "cwe", "is_vulnerable", "pair", "reasoning"),
        )
    ]


def _vulnerable(row: Row) -> list[LabelledCode]:
    """Code with a CWE id; without a label it counts as vulnerable."""
    language = "language" if "language" in row.data else "language_suffix"
    data = {"is_vulnerable": True, **row.data}
    return _own_labelled(Row(row.place, row.number, data), language)


def _sven_pair(row: Row) -> list[LabelledCode]:
    """Both sides of a security fix."""
    data = row.data
    before, after = read_text(data, "func_src_before"), read_text(data, "func_src_after")
    if before == after:
        raise UnusableRow("the fix changes nothing")
    path = Path(read_text(data, "file_name"))
    language = language_of_source(path, after) or read_language(path.suffix)
    rest = read_rest(data, "func_src_before", "func_src_after", "vul_type")
    return [
        LabelledCode(
            code=code,
            language=language,
            cwe=read_cwes(data["vul_type"]),
            is_vulnerable=is_vulnerable,
            pair=f"sven-{row.number}",
            extra=rest,
        )
        for code, is_vulnerable in ((before, True), (after, False))
    ]


def _judge_prompt(row: Row) -> list[LabelledCode]:
    """A row of the SecCoderX judge set for GRPO: a rendered prompt, and a label."""
    data = row.data
    return [_from_judge_prompt(read_text(data, "problem"), read_text(data, "answer"), None)]


def _judge_answer(row: Row) -> list[LabelledCode]:
    """A row of the SecCoderX cold-start set: a rendered prompt, and a full answer to it."""
    output = read_text(row.data, "output")
    answers = re.findall(r"<answer>(.*?)</answer>", output, re.DOTALL)
    thinking = re.search(r"<think>(.*?)</think>", output, re.DOTALL)
    if not answers or not thinking:
        raise UnusableRow("output has no <think> or no <answer> block")
    prompt = read_text(row.data, "instruction")
    return [_from_judge_prompt(prompt, answers[-1], thinking.group(1).strip())]


def _from_judge_prompt(prompt: str, label: str, reasoning: str | None) -> LabelledCode:
    """Read the code, and the weaknesses asked about, from a rendered prompt.

    A label reads "Vulnerable;[CWE-89, CWE-72]" or "Not Vulnerable;[]" (SecCoderX, arXiv
    2602.07422).
    """
    fence = re.search(r"^```([\w+#]+)[ \t]*\n(.*?)\n```", prompt, re.DOTALL | re.MULTILINE)
    if not fence:
        raise UnusableRow("prompt has no fenced code")
    text, _, named = label.partition(";")
    labels = {"vulnerable": True, "not vulnerable": False}
    if text.strip().lower() not in labels:
        raise UnusableRow("label is neither Vulnerable nor Not Vulnerable")
    asked = re.findall(r"^Type:\s*(CWE-\d+)", prompt, re.MULTILINE)
    return LabelledCode(
        code=fence.group(2),
        language=read_language(fence.group(1)),
        cwe=read_cwes(re.findall(r"CWE-\d+", named) or asked),
        is_vulnerable=labels[text.strip().lower()],
        reasoning=reasoning,
    )


def _primevul(row: Row) -> list[LabelledCode]:
    """A function of PrimeVul (github.com/DLVulDet/PrimeVul), which is C and C++ only."""
    data = row.data
    code = read_text(data, "func")
    language = language_of_source(Path(str(data.get("file_name") or "")), code)
    return [
        LabelledCode(
            code=code,
            language=language if language in ("c", "cpp") else "c",
            cwe=_known_cwes(data["cwe"]),
            is_vulnerable=read_label(data["target"], "target"),
            pair=read_pair(data.get("pair")),
            extra=read_rest(data, "func", "cwe", "target", "pair"),
        )
    ]


_PLACEHOLDER = re.compile(r"(?:nvd-)?cwe-?(?:noinfo|other|unknown|none)\b", re.IGNORECASE)


def _known_cwes(value: Json) -> tuple[str, ...]:
    """Return the ids, without the NVD's placeholders such as "NVD-CWE-noinfo" and "CWE-Other"."""
    entries = value if isinstance(value, list | tuple) else [value]
    return read_cwes([_PLACEHOLDER.sub("", e) if isinstance(e, str) else e for e in entries])


def _with_primevul_pairs(rows: list[Row]) -> list[Row]:
    """Return the rows with a column `pair` if the file is a paired one.

    Such a file alternates between a vulnerable function and its fix, or the reverse. No column
    names the pair, and one commit may have several.
    """
    pairs = list(zip(rows[::2], rows[1::2], strict=False))
    is_paired = len(rows) % 2 == 0 and all(
        one.data.get("commit_id") == other.data.get("commit_id")
        and {one.data.get("target"), other.data.get("target")} == {0, 1}
        for one, other in pairs
    )
    if not is_paired:
        return rows
    return [
        Row(row.place, row.number, {**row.data, "pair": f"primevul-{number // 2 + 1}"})
        for number, row in enumerate(rows)
    ]


_R2VUL_CWES = ("cwe", "cwe_id", "cwe_list")


def _r2vul(row: Row) -> list[LabelledCode]:
    """A function of R2Vul (arXiv 2504.04699)."""
    data = row.data
    weaknesses = next((data[name] for name in _R2VUL_CWES if data.get(name)), None)
    return [
        LabelledCode(
            code=read_text(data, "function"),
            language=read_language(data["lang"]),
            cwe=_known_cwes(weaknesses),
            is_vulnerable=read_label(data["vulnerable"], "vulnerable"),
            extra=read_rest(data, "function", "lang", "vulnerable", *_R2VUL_CWES),
        )
    ]


LABELLED_LAYOUTS: tuple[Layout[LabelledCode], ...] = (
    Layout(
        "SecCoderX detection test",
        ("code", "is_vulnerable", "language_suffix"),
        ("code", "language_suffix", "cwe", "is_vulnerable"),
        partial(_own_labelled, language="language_suffix"),
    ),
    Layout(
        "labelled code",
        ("code",),
        ("code", "language", "cwe", "is_vulnerable"),
        _own_labelled,
        is_own=True,
    ),
    Layout(
        "SVEN",
        ("func_src_before", "func_src_after"),
        ("func_src_before", "func_src_after", "vul_type", "file_name"),
        _sven_pair,
    ),
    Layout("SecCoderX judge, GRPO", ("problem", "answer"), ("problem", "answer"), _judge_prompt),
    Layout(
        "SecCoderX judge, cold start",
        ("instruction", "output"),
        ("instruction", "output"),
        _judge_answer,
    ),
    Layout(
        "PrimeVul",
        ("func", "target"),
        ("func", "target", "cwe"),
        _primevul,
        prepare=_with_primevul_pairs,
    ),
    Layout(
        "SecCodePLT",
        seccodeplt.MARKS,
        seccodeplt.COLUMNS,
        seccodeplt.read_pair,
        prepare=seccodeplt.with_families,
    ),
    Layout("R2Vul", ("function", "vulnerable"), ("function", "vulnerable", "lang"), _r2vul),
)

SEED_LAYOUTS: tuple[Layout[LabelledCode], ...] = (
    Layout("code", ("code", "language"), ("code", "language", "cwe"), _vulnerable),
    Layout("code", ("code", "language_suffix"), ("code", "language_suffix", "cwe"), _vulnerable),
    *LABELLED_LAYOUTS,
)
"""Layouts of the code that `synth` starts from; code labelled safe is skipped there."""
