import json
import re
from importlib import resources

import pytest

from seccoderx_lite.core import cwe
from seccoderx_lite.core.errors import DataError
from seccoderx_lite.core.records import LANGUAGES

TOP_25_OF_2023_TO_2025 = """
    20 22 77 78 79 89 94 119 120 121 122 125 190 200 269 276 284 287 306 352 362 400 416 434 476
    502 639 770 787 798 862 863 918
"""
SECCODERX = "20 22 72 78 79 89 94 119 120 125 190 200 276 295 327 416 476 732 787"
TINY_WORLD = "22 78 79 89 95 113 117 209 295 327 328 330 338 377 400 502 601 611 732 798 916 918"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("CWE-89", "CWE-89"),
        ("cwe-089", "CWE-89"),
        ("CWE_89", "CWE-89"),
        ("CWE89", "CWE-89"),
        (" cwe 89 ", "CWE-89"),
        ("89", "CWE-89"),
        (89, "CWE-89"),
        ("CWE-1333: Inefficient Regular Expression", "CWE-1333"),
    ],
)
def test_every_common_spelling_is_normalised(written, expected):
    assert cwe.normalise(written) == expected


@pytest.mark.parametrize(
    "written", ["", "CWE-", "SQL injection", "CWE-89x", "0", 0, -1, True, 89.5, 1e30]
)
def test_what_is_no_id_is_refused(written):
    with pytest.raises(DataError, match="is not a CWE id"):
        cwe.normalise(written)


def test_several_ids_are_not_one():
    with pytest.raises(DataError, match=r"'CWE-79\|80' names 2 weaknesses, not one"):
        cwe.normalise("CWE-79|80")


@pytest.mark.parametrize(
    "written",
    [
        "CWE-78, 94", "78;94", "CWE-78|CWE-94", "CWE-78/CWE-94", "CWE-078 CWE-094", "[78, 94]",
        "['CWE-78', 'CWE-94']", '["78"]["94"]', "CWE-78->CWE-94", "CWE-78 \u2192 CWE-94",
        "78 and 94",
        "CWE-78 or CWE-94", "{78, 94}", "CWE-78 (command), CWE-94: code", "CWE-78\nCWE-94\nCWE-78",
        [78, 94], [78.0, "94"], ("CWE-78|CWE-94", None), [["78"], float("nan"), 94], "78.0, 94.0",
    ],
)  # fmt: skip
def test_every_way_to_write_several_ids_is_read(written):
    assert cwe.ids_in(written) == ("CWE-78", "CWE-94")


@pytest.mark.parametrize("written", [None, float("nan"), "", " ", "[]", "None", "nan", [], [None]])
def test_every_way_to_write_no_id_is_read(written):
    assert cwe.ids_in(written) == ()


@pytest.mark.parametrize(
    "written",
    ["CWE-noinfo", "NVD-CWE-Other", "CWE-79, 80x", "CWE-79,CWE-noinfo", "79-80", {"a": 1}, [True]],
)
def test_what_is_not_all_ids_is_refused(written):
    with pytest.raises(DataError, match="is not a CWE id"):
        cwe.ids_in(written)


def test_every_entry_has_a_severity_and_worse_weaknesses_have_a_higher_one():
    assert all(0 < cwe.severity(entry.id) <= 10 for entry in cwe.catalogue())
    assert cwe.severity("CWE-78") > cwe.severity("CWE-79") > cwe.severity("CWE-209")


def test_an_entry_has_name_and_description():
    entry = cwe.get("cwe-089")
    assert entry.id == "CWE-89"
    assert "SQL Injection" in entry.name
    assert "statement" in entry.description


def test_an_id_outside_the_catalogue_says_so_instead_of_failing():
    assert cwe.get(9999) == cwe.Cwe("CWE-9999", "weakness not in the catalogue", "")


@pytest.mark.parametrize("numbers", [TOP_25_OF_2023_TO_2025, SECCODERX, TINY_WORLD])
def test_catalogue_covers_the_lists_it_is_made_for(numbers):
    ids = {entry.id for entry in cwe.catalogue()}
    assert {f"CWE-{number}" for number in numbers.split()} <= ids


def test_entries_are_unique_ordered_and_short():
    entries = cwe.catalogue()
    numbers = [int(re.fullmatch(r"CWE-([1-9]\d*)", entry.id)[1]) for entry in entries]
    assert numbers == sorted(set(numbers))
    for entry in entries:
        assert entry.name and entry.description.endswith("."), entry.id
        assert 5 <= len(entry.description.split()) <= 25, entry.id


def test_the_catalogue_names_its_source_and_version():
    text = (resources.files("seccoderx_lite") / "core" / "cwe.json").read_text(encoding="utf-8")
    data = json.loads(text)
    assert "cwe.mitre.org" in data["source"]
    assert data["version"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_typical_of_a_language_is_in_the_catalogue(language):
    typical = cwe.typical_of(language)
    assert len(typical) > 5 and list(typical) == cwe.in_order([typical])
    assert all(cwe.get(weakness).description for weakness in typical)


def test_parents_are_ids():
    parents = [parent for entry in cwe.catalogue() for parent in entry.parents]
    assert len(parents) > 100 and all(cwe.normalise(parent) == parent for parent in parents)
