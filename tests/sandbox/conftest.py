from collections.abc import Iterator

import pytest

from seccoderx_lite.sandbox import Limits, Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=2, limits=Limits(timeout_s=5)) as sandbox:
        yield sandbox
