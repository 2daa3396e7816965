"""Go modules and Node packages of CWEval's tasks, offered to the jail read-only."""

import os
import subprocess
import zipfile

import pytest
from helpers.cweval_checkout import GO_ENTRYPOINT, GO_SAFE, write_checkout

from seccoderx_lite.evaluation.suites import cweval_packages
from seccoderx_lite.evaluation.suites.cweval import read_cweval
from seccoderx_lite.evaluation.suites.cweval_grading import CwevalGrader
from seccoderx_lite.evaluation.suites.cweval_packages import (
    environment,
    go_get,
    module_files,
    shown_folders,
)
from seccoderx_lite.evaluation.suites.loading import load_suite
from seccoderx_lite.sandbox import Sandbox
from seccoderx_lite.sandbox.languages import GOIMPORTS, find_tool

GO_MOD = "module cweval\n\ngo 1.18\n\nrequire example.com/words v1.0.0\n"


@pytest.mark.parametrize("place", [".", "benchmark", "benchmark/core/go"])
def test_a_go_module_is_found_anywhere_in_the_checkout(place, tmp_path):
    checkout = write_checkout(tmp_path)
    (checkout / place / "go.mod").write_text(GO_MOD)
    (checkout / place / "go.sum").write_text("sums\n")
    tasks = {task.language: task for task in read_cweval(checkout)}
    assert tasks["go"].modules == {"go.mod": GO_MOD, "go.sum": "sums\n"}
    assert tasks["python"].modules == {}


def test_a_go_module_above_the_checkout_is_not_its_own(tmp_path):
    (tmp_path / "go.mod").write_text(GO_MOD)
    checkout = tmp_path / "CWEval"
    (checkout / "benchmark").mkdir(parents=True)
    assert module_files(checkout / "benchmark", checkout) == {}


def test_go_builds_as_a_module_only_with_a_module(tmp_path):
    assert environment("go", tmp_path, {"go.mod": GO_MOD})["GO111MODULE"] == "on"
    alone = environment("go", tmp_path, {})
    assert (alone["GO111MODULE"], alone["GOPATH"]) == ("off", "/usr/share/gocode")
    assert alone["GOPROXY"] == "off"


def test_the_command_that_gets_a_go_module_makes_the_module_first_if_there_is_none(tmp_path):
    place = tmp_path / "my checkout"
    assert go_get(place, {}) == f"cd '{place}' && go mod init cweval && go get"
    assert go_get(place, {"go.mod": GO_MOD}) == f"cd '{place}' && go get"


def test_node_packages_of_the_checkout_and_of_npm_are_found(tmp_path, monkeypatch):
    own, everyones = tmp_path / "CWEval" / "node_modules", tmp_path / "npm"
    own.mkdir(parents=True)
    everyones.mkdir()
    monkeypatch.setattr(cweval_packages, "_node_root", lambda: str(everyones))
    found = environment("javascript", tmp_path / "CWEval", {})["NODE_PATH"].split(":")
    assert found[:2] == [str(own), str(everyones)] and "/usr/share/nodejs" in found
    shown = shown_folders([f"cweval:{tmp_path / 'CWEval'}"])
    assert {str(own), str(everyones)} <= set(shown)


def test_nothing_is_shown_for_other_suites():
    assert shown_folders(["builtin:tiny", "humaneval:file"]) == []


def test_a_node_task_imports_a_package_of_the_checkout(tmp_path):
    if find_tool(("node", "nodejs")) is None:
        pytest.skip("Node is not installed")
    checkout = write_checkout(tmp_path)
    for package, text in (("limits-of-numbers", "exports.MAX = 2147483647;\n"),):
        (checkout / "node_modules" / package).mkdir(parents=True)
        (checkout / "node_modules" / package / "index.js").write_text(text)
    task = checkout / "benchmark/core/js/cwe_190_0_js_task.js"
    text = task.read_text().replace("2147483647", "require('limits-of-numbers').MAX")
    task.write_text(text)
    suites = [f"cweval:{checkout}"]
    tasks = [one for one in load_suite(suites[0])[0].tasks if one.language == "javascript"]
    with Sandbox(workers=1, readable=shown_folders(suites)) as sandbox:
        reference, _ = CwevalGrader(sandbox).check(tasks)
    assert reference.is_right, reference.note


@pytest.mark.slow
def test_a_go_task_imports_a_module_with_cgo(tmp_path, monkeypatch):
    go = find_tool(("go",))
    if go is None or find_tool(GOIMPORTS) is None:
        pytest.skip("Go or goimports is not installed")
    proxy = _proxy(tmp_path / "proxy")
    checkout = write_checkout(tmp_path / "CWEval")
    folder = checkout / "benchmark/core/go"
    safe = GO_SAFE.replace('"errors"', '"errors"\n\t"example.com/words"')
    safe = safe.replace("number >= 2147483647", "number >= words.Limit()")
    (folder / "cwe_190_0_go_task.go").write_text(safe + GO_ENTRYPOINT)
    own = {"GOPATH": str(tmp_path / "go"), "GOFLAGS": "-modcacherw", "GOSUMDB": "off"}
    for name, value in {**own, "GOPROXY": "off", "GOTOOLCHAIN": "local"}.items():
        monkeypatch.setenv(name, value)
    cweval_packages._go_folders.cache_clear()
    suites = [f"cweval:{checkout}"]

    def check():
        tasks = [one for one in load_suite(suites[0])[0].tasks if one.language == "go"]
        with Sandbox(workers=1, readable=shown_folders(suites)) as sandbox:
            return next(iter(CwevalGrader(sandbox).check(tasks)))

    before = check()
    assert not before.is_measurable
    command = before.note.partition("run: ")[2]
    environment_of_user = {**os.environ, "GOPROXY": f"file://{proxy}"}
    subprocess.run(["sh", "-c", command], check=True, env=environment_of_user)
    cweval_packages._go_folders.cache_clear()
    after = check()
    assert after.is_right, after.note
    cweval_packages._go_folders.cache_clear()


def _proxy(folder):
    """A Go module proxy in a folder, with one module that needs cgo."""
    place = folder / "example.com/words/@v"
    place.mkdir(parents=True)
    code = (
        'package words\n\n// static int limit(void) { return 2147483647; }\nimport "C"\n\n'
        "func Limit() int { return int(C.limit()) }\n"
    )
    module = "module example.com/words\n\ngo 1.18\n"
    with zipfile.ZipFile(place / "v1.0.0.zip", "w") as archive:
        archive.writestr("example.com/words@v1.0.0/go.mod", module)
        archive.writestr("example.com/words@v1.0.0/words.go", code)
    (place / "v1.0.0.mod").write_text(module)
    (place / "v1.0.0.info").write_text('{"Version": "v1.0.0"}')
    (place / "list").write_text("v1.0.0\n")
    return folder
