"""An OpenAI-compatible server asked patiently: retries, backoff, rate limits, replicas.

What a failure means: 429, 5xx, time-outs, broken connections and replies that cannot be used are
tried again, with exponential backoff and full jitter, at the next replica if there are several;
`Retry-After` holds back every request to that replica, not only the one that was told. 400, 413 and
422 are the fault of that one request. Any other status, and servers of which none was ever reached,
is a wrong setting: an error at once. An error told in the body of a 200 counts as its code.
"""

import email.utils
import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import httpx
import tenacity

from seccoderx_lite.core.errors import RecipeError, SeccoderxError
from seccoderx_lite.core.records import Json

logger = logging.getLogger(__name__)
Found = TypeVar("Found")

LONGEST_BACKOFF_S = 60.0
LONGEST_RETRY_AFTER_S = 3600.0
LARGEST_REPLY_BYTES = 16 * 2**20
_TOLD_WAIT_S = 10.0
_AT_FAULT = (400, 413, 422)


class TryAgain(Exception):
    """A failure that another attempt may not meet."""


class AtFault(Exception):
    """The server refuses this one request."""


class Patience(Protocol):
    """The fields of a recipe's section that say how a server is asked."""

    @property
    def api_key_env(self) -> str | None:
        """Environment variable that holds the key, if the server wants one."""

    @property
    def timeout_s(self) -> float:
        """For one attempt, its whole reply included."""

    @property
    def concurrency(self) -> int:
        """Most connections at once."""

    @property
    def attempts(self) -> int:
        """How often one request is sent at most."""

    @property
    def backoff_s(self) -> float:
        """Longest wait before the second attempt; doubled for each further one."""


class ChatClient:
    """Asks `POST {url}/chat/completions`; safe to use from several threads."""

    def __init__(
        self,
        urls: Sequence[str],
        patience: Patience,
        *,
        section: str,
        error: type[SeccoderxError],
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            urls: base addresses up to and including `/v1`; replicas are asked in turn.
            patience: how they are asked.
            section: the recipe's section of these settings, for messages.
            error: raised where a setting is wrong.

        Raises:
            RecipeError: the key's environment variable is not set.
        """
        addresses = [url.rstrip("/") + "/chat/completions" for url in urls]
        self._addresses = itertools.cycle(addresses)
        self._open_from = dict.fromkeys(addresses, 0.0)
        self._unreached = set(addresses)
        self._was_reached = False
        self._patience = patience
        self._section = section
        self._error = error
        self.stop = threading.Event()
        """While set, nothing is waited for and nothing is tried again."""
        self._client = httpx.Client(
            headers=key_headers(patience.api_key_env, section),
            timeout=patience.timeout_s,
            limits=httpx.Limits(max_connections=patience.concurrency),
        )

    def patiently(self, attempt: Callable[[], Found]) -> Found:
        """Return what an attempt returns; make it again where it raises TryAgain.

        Raises:
            TryAgain: the last attempt failed too; the message says how.
        """
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._patience.attempts)
            | tenacity.stop_when_event_set(self.stop),
            wait=tenacity.wait_random_exponential(self._patience.backoff_s, LONGEST_BACKOFF_S),
            retry=tenacity.retry_if_exception_type(TryAgain),
            sleep=tenacity.sleep_using_event(self.stop),
            reraise=True,
        )
        return attempts(attempt)

    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the server's reply to one request, sent once, when the rate limit allows it.

        Raises:
            TryAgain: no reply, or one that says to come back later, or no JSON object.
            AtFault: the server refuses this request.
            SeccoderxError: a setting is wrong (of the class given at the start).
        """
        address = next(self._addresses)
        self._wait_for_rate_limit(address)
        if self.stop.is_set():
            raise TryAgain("the run is being stopped")
        status, retry_after, content = self._send(address, body)
        told = content[:200].decode(errors="replace")
        self._check_status(address, status, retry_after, f"HTTP {status}: {told}")
        try:
            data = json.loads(content)
        except ValueError as error:
            raise not_a_completion(told) from error
        if not isinstance(data, dict):
            raise not_a_completion(told)
        if fault := data.get("error"):
            self._check_status(address, _code_of(fault), retry_after, f"it reports: {told}")
        return data

    def _send(self, address: str, body: dict[str, Any]) -> tuple[int, str | None, bytes]:
        """Return status, `Retry-After` and content; the time-out is one for all of it.

        httpx's own holds between two pieces only: a server that drips would never meet it.
        """
        until = time.monotonic() + self._patience.timeout_s
        content = bytearray()
        try:
            with self._client.stream("POST", address, json=body) as response:
                self._was_reached = True
                for piece in response.iter_bytes():
                    content += piece
                    if time.monotonic() > until:
                        raise TryAgain(f"no whole reply within {self._patience.timeout_s:g} s")
                    if len(content) > LARGEST_REPLY_BYTES:
                        raise TryAgain(f"the reply is larger than {LARGEST_REPLY_BYTES} bytes")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            self._unreached.discard(address)
            if not self._was_reached and not self._unreached:
                raise self._error(
                    f"{address}: cannot be reached ({error}); check the address under "
                    f"{self._section}, and that the server is running"
                ) from error
            raise TryAgain(f"{type(error).__name__}: {error}") from error
        except httpx.HTTPError as error:
            raise TryAgain(f"{type(error).__name__}: {error}") from error
        return response.status_code, response.headers.get("Retry-After"), bytes(content)

    def _check_status(self, address: str, status: int, retry_after: str | None, told: str) -> None:
        if status == 200:
            return
        if status in (408, 409, 425, 429) or status >= 500:
            self._hold_back(address, retry_after)
            raise TryAgain(told)
        if status in _AT_FAULT:
            raise AtFault(told)
        advice = f"check the address (up to and including /v1) and {self._section}.model"
        if status in (401, 403):
            name = self._patience.api_key_env
            advice = f"check the key in {name}" if name else f"give {self._section}.api_key_env"
        raise self._error(f"{address}: {told}; {advice}")

    def _hold_back(self, address: str, retry_after: str | None) -> None:
        seconds = seconds_to_wait(retry_after)
        if seconds > _TOLD_WAIT_S and self._open_from[address] < time.monotonic():
            logger.warning("%s asks to wait %.0f s", address, seconds)
        self._open_from[address] = max(self._open_from[address], time.monotonic() + seconds)

    def _wait_for_rate_limit(self, address: str) -> None:
        while not self.stop.is_set() and (left := self._open_from[address] - time.monotonic()) > 0:
            self.stop.wait(left)


def _code_of(fault: Json) -> int:
    """Return the status that an error in a body stands for."""
    code = fault.get("code") if isinstance(fault, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def not_a_completion(reply: object) -> TryAgain:
    """Return the failure that a reply is, which is not shaped as a chat completion."""
    return TryAgain(f"the reply is no chat completion: {str(reply)[:200]!r}")


def key_headers(api_key_env: str | None, section: str) -> dict[str, str]:
    """Return the headers that carry a server's key.

    Raises:
        RecipeError: the environment variable is not set.
    """
    if not api_key_env:
        return {}
    if not (key := os.environ.get(api_key_env)):
        raise RecipeError(
            f"{section}.api_key_env: the environment variable {api_key_env} is not set; set it, "
            "or leave api_key_env out for a server without a key"
        )
    return {"Authorization": f"Bearer {key}"}


def seconds_to_wait(retry_after: str | None) -> float:
    """Return the seconds a `Retry-After` header asks for, 0 without a readable one.

    Seconds or an HTTP date (RFC 9110, section 10.2.3); at most an hour.

    >>> seconds_to_wait("2"), seconds_to_wait("soon"), seconds_to_wait(None)
    (2.0, 0.0, 0.0)
    """
    if retry_after is None:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S) if seconds == seconds else 0.0
