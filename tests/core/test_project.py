"""The repository's address is written in pyproject.toml alone."""

from email.message import Message

import pytest

from seccoderx_lite.core import project

ADDRESS = "https://example.org/code"


def metadata(*urls: str):
    message = Message()
    for url in urls:
        message["Project-URL"] = url
    return lambda name: message


@pytest.mark.parametrize(
    ("urls", "name"),
    [
        (["Paper, https://x", f"Repository, {ADDRESS}"], f"[seccoderx-lite]({ADDRESS})"),
        (["Paper, https://x"], "seccoderx-lite"),
        ([], "seccoderx-lite"),
    ],
)
def test_cards_link_to_the_address_if_it_is_set(monkeypatch, urls, name):
    monkeypatch.setattr(project, "metadata", metadata(*urls))
    assert project.linked_name() == name
