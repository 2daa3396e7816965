"""Where this package is published."""

from importlib.metadata import PackageNotFoundError, metadata

NAME = "seccoderx-lite"


def repository() -> str | None:
    """Return `project.urls.Repository` of pyproject.toml, if it is set.

    That is the only place where the address is written; cards and reports read it here.
    """
    try:
        urls = metadata(NAME).get_all("Project-URL") or []
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None
    addresses = dict(url.split(", ", 1) for url in urls)
    return addresses.get("Repository")


def linked_name() -> str:
    """Return the package's name as Markdown, with a link if the address is set."""
    address = repository()
    return f"[{NAME}]({address})" if address else NAME
