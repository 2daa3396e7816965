"""Labelled code as others publish it: PrimeVul, R2Vul; other layouts are in test_datasets."""

import json

import pytest

from seccoderx_lite.core.errors import DataError
from seccoderx_lite.data.loading import load_labelled


def primevul(target: int, commit: str, **columns) -> dict:
    return {
        "idx": 7,
        "project": "gd",
        "commit_id": commit,
        "commit_message": "Fix it",
        "cve": "CVE-1",
        "func": f"int f(void) {{ return {target}; }}",
        "target": target,
        "cwe": ["CWE-787"],
        "file_name": "src/a.c",
        **columns,
    }


PAIRED = [
    primevul(1, "a"),
    primevul(0, "a"),
    primevul(1, "a"),
    primevul(0, "a"),
    primevul(0, "b"),
    primevul(1, "b"),
]


@pytest.fixture
def write(tmp_path):
    def write_rows(*rows: dict):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write_rows


def test_a_paired_primevul_file_gives_pairs(write):
    labelled = load_labelled(write(*PAIRED))
    assert [code.pair for code in labelled] == [f"primevul-{n}" for n in (1, 1, 2, 2, 3, 3)]
    assert [code.is_vulnerable for code in labelled] == [True, False, True, False, False, True]
    assert labelled[0].cwe == ("CWE-787",) and labelled[0].extra["cve"] == "CVE-1"


@pytest.mark.parametrize(
    "rows",
    [
        [primevul(1, "a"), primevul(0, "b")],
        [primevul(1, "a"), primevul(1, "a")],
        [primevul(1, "a"), primevul(0, "a"), primevul(0, "a")],
        [primevul(0, "a")],
    ],
    ids=["other commits", "one label", "odd", "single"],
)
def test_an_unpaired_primevul_file_gives_none(write, rows):
    assert [code.pair for code in load_labelled(write(*rows))] == [None] * len(rows)


@pytest.mark.parametrize(
    ("name", "language"),
    [("x.c", "c"), ("x.cpp", "cpp"), ("x.cc", "cpp"), ("x.h", "c"), (None, "c"), ("x.y", "c")],
)
def test_primevul_code_is_c_or_cpp_by_its_file(write, name, language):
    assert load_labelled(write(primevul(1, "a", file_name=name)))[0].language == language


@pytest.mark.parametrize(
    ("value", "cwes"),
    [
        (["CWE-787", "CWE-120"], ("CWE-787", "CWE-120")),
        (["NVD-CWE-noinfo"], ()),
        (["CWE-Other", "CWE-20"], ("CWE-20",)),
        ([], ()),
        (None, ()),
        ("CWE-20", ("CWE-20",)),
    ],
)
def test_words_for_no_weakness_are_no_weakness(write, value, cwes):
    assert load_labelled(write(primevul(1, "a", cwe=value)))[0].cwe == cwes


R2VUL = {
    "function": "int f() {}",
    "vulnerable": 1,
    "lang": "java",
    "cwe_id": ["CWE-22"],
    "CVE": "x",
}


def test_r2vul_is_read_and_its_other_language_counted(write, caplog):
    rows = [R2VUL, {**R2VUL, "vulnerable": 0, "cwe_id": None}, {**R2VUL, "lang": "c_sharp"}]
    bad, good = load_labelled(write(*rows))
    assert (bad.language, bad.is_vulnerable, bad.cwe) == ("java", True, ("CWE-22",))
    assert (good.is_vulnerable, good.cwe, good.extra) == (False, (), {"CVE": "x"})
    assert "language 'c_sharp' is not supported (1)" in caplog.text


def test_a_folder_as_the_datasets_package_saves_it_is_read(tmp_path):
    import pyarrow

    table = pyarrow.Table.from_pylist([R2VUL, R2VUL])
    for split, rows in {"train": table, "test": table.slice(0, 1)}.items():
        file = tmp_path / split / "data-00000-of-00001.arrow"
        file.parent.mkdir()
        with pyarrow.ipc.new_stream(str(file), table.schema) as stream:
            stream.write_table(rows)
        (file.parent / "state.json").write_text("{}")
    assert len(load_labelled(tmp_path)) == 3
    assert len(load_labelled(tmp_path, "test")) == 1
    file.write_bytes(b"no")
    with pytest.raises(DataError, match=r"arrow is not a readable arrow file"):
        load_labelled(file)


def test_a_file_of_no_known_layout_is_shown_all_known_ones(write):
    with pytest.raises(DataError) as caught:
        load_labelled(write({"source": "x", "label": 1}))
    message = str(caught.value)
    assert "its columns (source, label) match no layout of labelled code" in message
    for known in (
        "PrimeVul: func, target, cwe",
        "R2Vul: function, vulnerable, lang",
        "SVEN: func_",
    ):
        assert known in message
