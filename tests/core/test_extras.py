"""The command that installs an extra names packages, which every kind of installation can use."""

import shlex
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

from seccoderx_lite.core import extras

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
DECLARED = [
    *(
        f"{package}; extra == '{extra}'"
        for extra, packages in EXTRAS.items()
        for package in packages
    ),
    "torch>=2.10",
]


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_installed_package_names_the_packages_of_the_extra(monkeypatch, extra):
    monkeypatch.setattr(extras, "requires", lambda name: DECLARED)
    words = shlex.split(extras.install_command(extra))
    assert words == ["pip", "install", *EXTRAS[extra]]


def test_a_checkout_that_is_not_installed_is_installed_itself(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", missing)
    assert extras.install_command("gguf") == f"pip install -e '{ROOT}[gguf]'"


def test_metadata_of_this_installation_is_understood():
    try:
        requires("seccoderx-lite")
    except PackageNotFoundError:
        pytest.skip("seccoderx-lite is not installed here")
    assert "bandit" in extras.install_command("analysers")
