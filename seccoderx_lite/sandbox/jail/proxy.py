"""The module `candidate`, as the tests import it: proxies for what the candidate defines."""

import builtins
import sys
import types
from typing import Any

from .errors import CandidateGone
from .link import Link


def _names_of(listed: Any) -> list[str]:
    """What `from candidate import *` may import: no name that shadows builtins or modules."""
    tests = vars(sys.modules["tests"]) if "tests" in sys.modules else {}
    own = {name for name, value in tests.items() if isinstance(value, types.ModuleType)}
    kept = {*dir(builtins), "pytest", *own}
    return [name for name in listed if isinstance(name, str) and name not in kept]


class CandidateModule(types.ModuleType):
    """The module `candidate`, as the tests import it."""

    def __init__(self, link: Link) -> None:
        super().__init__("candidate")
        self._link = link
        self._found: dict[str, Any] = {}
        self._deleted: set[str] = set()
        """Names that a test deleted, as mocks do before they restore a name."""

    def __getattr__(self, name: str) -> Any:
        """A proxy, an exception class or a constant; a missing name fails when it is called."""
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        if name in self._deleted:
            raise AttributeError(name)
        if name not in self._found:
            self._found[name] = self._look(name)
        return self._found[name]

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a name of the candidate's module, as mocks do."""
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        self._link.ask("set", None, name, value)
        self._deleted.discard(name)
        self._found[name] = value

    def __delattr__(self, name: str) -> None:
        self._link.ask("delete", None, name)
        self._found.pop(name, None)
        self._deleted.add(name)

    def _look(self, name: str) -> Any:
        link = self._link
        try:
            reply = link.request("look", name, [], {})
        except CandidateGone as gone:
            link.broken = link.broken or gone
            return Missing(link, name)
        if reply[0] == "exception":
            return link.exceptions.looked_up(reply[1], name)
        if reply[0] != "value":
            return Missing(link, name)
        return _names_of(reply[1]) if name == "__all__" else link.handles.looked_up(name, reply[1])


class Missing:
    """A name that the candidate does not define, or that cannot be had: using it fails a test."""

    def __init__(self, link: Link, name: str) -> None:
        self._link, self.__name__ = link, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._link.ask("call", self.__name__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._link.ask("call", self.__name__)
