"""The command that installs an optional part of the toolkit."""

import re
import shlex
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]


def install_command(extra: str) -> str:
    """Return the `pip install` command for an extra of pyproject.toml.

    It names the extra's packages: `seccoderx-lite[extra]` works only if a package index has
    seccoderx-lite, not after an installation from a file or a checkout.
    """
    try:
        declared = requires("seccoderx-lite") or []
    except PackageNotFoundError:  # imported from a checkout that is not installed
        return f"pip install -e {shlex.quote(f'{_CHECKOUT}[{extra}]')}"
    belongs = re.compile(rf"""extra == ['"]{re.escape(extra)}['"]""")
    packages = [line.partition(";")[0].strip() for line in declared if belongs.search(line)]
    return f"pip install {shlex.join(packages)}"
