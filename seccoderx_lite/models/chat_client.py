"""Client for OpenAI-compatible servers, shared by the judge, the evaluation and `synth`.

What it does about each failure:
    408, 409, 425, 429, 5xx, timeouts, broken connections and unusable replies are retried with
    exponential backoff and full jitter, on the next replica if there are several. `Retry-After`
    delays every request to that replica, not only the one that received it.
    400, 413 and 422 reject one request; the others go on.
    Any other status is a wrong setting and raises at once, as does a server that was never reached.
An error in the body of a 200 response counts as its code.

The `openai` package would not replace this: it has no replicas, no rate limit shared by threads and
no time limit for a whole reply, it fixes its backoff, and its waits cannot be interrupted.
"""

import email.utils
import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import httpx
import tenacity

from seccoderx_lite.core.errors import RecipeError, SeccoderxError
from seccoderx_lite.core.records import Json
from seccoderx_lite.recipe.recipe import EndpointRecipe
from seccoderx_lite.recipe.synth import GeneratorRecipe

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

LONGEST_BACKOFF_S = 60.0
LONGEST_RETRY_AFTER_S = 3600.0
LARGEST_REPLY_BYTES = 16 * 2**20
_LOGGED_WAIT_S = 10.0
_TRANSIENT = (408, 409, 425, 429)
_REJECTED = (400, 413, 422)
_TEXT_PARTS = ("text", "output_text", None)


WhyNoText: TypeAlias = Literal["refusal", "content_filter", "length", "tool_calls"]
"""How a model can fail to answer: with `length` it thought until the end of its tokens."""


class TransientError(Exception):
    """A failure that a retry may not meet."""


class RequestRejected(Exception):
    """The server rejects this one request."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The first choice of a chat completion; fields that the server left out are None."""

    text: str | None
    """Text parts joined, without thinking parts."""
    reasoning: str
    """Thinking that the server returns separately from the text, or ""."""
    refusal: Json
    finish_reason: Json
    logprobs: Json
    usage: Mapping[str, Json]
    calls_tools: bool = False

    @property
    def why_no_text(self) -> WhyNoText | None:
        """Why the model itself gave no text; None if it gave some, or the reason is unknown."""
        if (self.text or "").strip():
            return None
        if self.refusal:
            return "refusal"
        if self.finish_reason == "content_filter":
            return "content_filter"
        if self.finish_reason == "length" or self.reasoning.strip():
            return "length"
        return "tool_calls" if self.calls_tools else None


class ChatClient:
    """Sends `POST {url}/chat/completions`; safe to use from several threads."""

    def __init__(
        self,
        urls: Sequence[str],
        recipe: EndpointRecipe | GeneratorRecipe,
        *,
        section: str,
        error: type[SeccoderxError],
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            urls: base addresses up to and including `/v1`; replicas are used in turn.
            recipe: model, key, timeout, concurrency, attempts and backoff.
            section: the recipe's section, named in messages.
            error: class of the errors raised for a wrong setting.

        Raises:
            RecipeError: the key's environment variable is not set.
        """
        addresses = [url.rstrip("/") + "/chat/completions" for url in urls]
        self._addresses = itertools.cycle(addresses)
        self._blocked_until = dict.fromkeys(addresses, 0.0)
        self._untried = set(addresses)
        self._was_reached = False
        self._recipe = recipe
        self._section = section
        self._error = error
        self._stop = threading.Event()
        self._http = httpx.Client(
            headers=key_headers(recipe.api_key_env, section),
            timeout=recipe.timeout_s,
            limits=httpx.Limits(max_connections=recipe.concurrency),
        )

    @property
    def is_stopping(self) -> bool:
        """Whether `ask_all` is ending early: nothing is waited for and nothing is retried."""
        return self._stop.is_set()

    def ask_all(
        self,
        prompts: Sequence[str],
        ask: Callable[[str], Answer],
        on_answer: Callable[[int, Answer], None],
    ) -> None:
        """Call `ask` on all prompts in parallel, and `on_answer(index, answer)` as each is done.

        `on_answer` runs in the caller's thread. After an error or an interrupt, queued prompts are
        dropped; requests in flight are waited for and passed on, because they are paid for.

        Raises:
            SeccoderxError: the first one that `ask` raised.
        """
        self._stop.clear()
        with ThreadPoolExecutor(self._recipe.concurrency) as pool:
            futures = {pool.submit(ask, prompt): n for n, prompt in enumerate(prompts)}
            try:
                failure = self._pass_on(futures, on_answer)
            except KeyboardInterrupt:
                self._give_up(futures)
                logger.warning("interrupted: waiting for the requests in flight")
                self._pass_on(futures, on_answer)
                raise
            except BaseException:
                self._give_up(futures)
                raise
        if failure:
            raise failure

    def _pass_on(
        self, futures: "dict[Future[Answer], int]", on_answer: Callable[[int, Answer], None]
    ) -> SeccoderxError | None:
        """Remove each future as it is done and pass on its answer; return the first failure."""
        failure: SeccoderxError | None = None
        for future in as_completed(list(futures)):
            number = futures.pop(future)
            if future.cancelled():
                continue
            error = future.exception()
            if isinstance(error, SeccoderxError):
                failure = failure or error
                self._give_up(futures)
            else:
                on_answer(number, future.result())
        return failure

    def _give_up(self, futures: "Mapping[Future[Answer], int]") -> None:
        self._stop.set()
        for future in futures:
            future.cancel()

    def with_retries(self, attempt: Callable[[], Answer]) -> Answer:
        """Return what `attempt` returns; repeat it while it raises TransientError.

        Raises:
            TransientError: the last attempt failed too.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._recipe.attempts)
            | tenacity.stop_when_event_set(self._stop),
            wait=tenacity.wait_random_exponential(self._recipe.backoff_s, LONGEST_BACKOFF_S),
            retry=tenacity.retry_if_exception_type(TransientError),
            sleep=tenacity.sleep_using_event(self._stop),
            reraise=True,
        )
        return retrying(attempt)

    def complete(self, prompt: str, settings: Mapping[str, Any]) -> ChatReply:
        """Send one user message, once, when the rate limit allows it.

        Args:
            prompt: the message.
            settings: further fields of the request, such as `max_tokens`.

        Raises:
            TransientError: no usable reply.
            RequestRejected: the server rejects this request.
            SeccoderxError: a setting is wrong (of the class given to the constructor).
        """
        address = next(self._addresses)
        self._wait_for_rate_limit(address)
        if self.is_stopping:
            raise TransientError("the run is stopping")
        message = {"role": "user", "content": prompt}
        body = {"model": self._recipe.model, **settings, "messages": [message]}
        status, retry_after, content = self._send(address, body)
        excerpt = content[:400].decode(errors="replace")
        self._check_status(address, status, retry_after, f"HTTP {status}: {excerpt}")
        try:
            data = json.loads(content)
        except ValueError as error:
            raise _not_a_completion(excerpt) from error
        if isinstance(data, dict) and (fault := data.get("error")):
            what = f"the reply is an error: {excerpt}"
            self._check_status(address, _code_of(fault), retry_after, what)
        choice = _first_choice(data)
        if (fault := choice.get("error")) or choice.get("finish_reason") == "error":
            what = f"the reply is an error: {str(fault or choice)[:200]}"
            self._check_status(address, _code_of(fault), retry_after, what)
        return _chat_reply(choice, data.get("usage"))

    def _send(self, address: str, body: dict[str, Any]) -> tuple[int, str | None, bytes]:
        """Return status, `Retry-After` and content; the timeout is for the whole reply.

        httpx's own timeout restarts with every chunk, so a server that trickles would never hit it.
        """
        deadline = time.monotonic() + self._recipe.timeout_s
        content = bytearray()
        try:
            with self._http.stream("POST", address, json=body) as response:
                self._was_reached = True
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > deadline:
                        raise TransientError(f"no whole reply within {self._recipe.timeout_s:g} s")
                    if len(content) > LARGEST_REPLY_BYTES:
                        raise TransientError(f"the reply exceeds {LARGEST_REPLY_BYTES} bytes")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            self._untried.discard(address)
            if not self._was_reached and not self._untried:
                raise self._error(
                    f"{address}: cannot be reached ({error}); check the address under "
                    f"{self._section}, and that the server is running"
                ) from error
            raise TransientError(f"{type(error).__name__}: {error}") from error
        except httpx.HTTPError as error:
            raise TransientError(f"{type(error).__name__}: {error}") from error
        return response.status_code, response.headers.get("Retry-After"), bytes(content)

    def _check_status(self, address: str, status: int, retry_after: str | None, what: str) -> None:
        if status == 200:
            return
        if status in _TRANSIENT or status >= 500:
            self._block(address, seconds_to_wait(retry_after))
            raise TransientError(what)
        if status in _REJECTED:
            raise RequestRejected(what)
        advice = f"check the address (up to and including /v1) and {self._section}.model"
        if status in (401, 403):
            name = self._recipe.api_key_env
            advice = f"check the key in {name}" if name else f"set {self._section}.api_key_env"
        raise self._error(f"{address}: {what}; {advice}")

    def _block(self, address: str, seconds: float) -> None:
        if seconds > _LOGGED_WAIT_S and self._blocked_until[address] < time.monotonic():
            logger.warning("%s: rate limited, waiting %.0f s", address, seconds)
        until = time.monotonic() + seconds
        self._blocked_until[address] = max(self._blocked_until[address], until)

    def _wait_for_rate_limit(self, address: str) -> None:
        # Another thread may extend the wait meanwhile.
        while (left := self._blocked_until[address] - time.monotonic()) > 0:
            if self._stop.wait(left):
                return


def _code_of(fault: Json) -> int:
    """Return the status in an error body; 500 if there is none."""
    code = fault.get("code") if isinstance(fault, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _first_choice(data: Json) -> Mapping[str, Json]:
    try:
        choice = data["choices"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise _not_a_completion(data) from error
    if not isinstance(choice, Mapping) or not isinstance(choice.get("message"), Mapping):
        raise _not_a_completion(data)
    return choice


def _chat_reply(choice: Mapping[str, Json], usage: Json) -> ChatReply:
    message = choice["message"]
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    return ChatReply(
        _text_in(message.get("content")),
        reasoning if isinstance(reasoning, str) else "",
        message.get("refusal") or _refusal_in(message.get("content")),
        choice.get("finish_reason"),
        choice.get("logprobs"),
        usage if isinstance(usage, Mapping) else {},
        calls_tools=bool(message.get("tool_calls") or message.get("function_call")),
    )


def _text_in(content: Json) -> str | None:
    """The text of a message, which may be a list of parts; thinking parts are left out.

    A lone surrogate, which no file can hold, becomes "?".
    """
    if content is None:
        return None
    parts = content if isinstance(content, list) else [content]
    texts = [part if isinstance(part, str) else _text_of_part(part) for part in parts]
    joined = "".join(text for text in texts if text is not None)
    return joined.encode("utf-8", "replace").decode()


def _text_of_part(part: Json) -> str | None:
    if not isinstance(part, Mapping):
        raise TransientError(f"the reply has content that is not text: {str(part)[:100]!r}")
    text = part.get("text")
    return text if part.get("type") in _TEXT_PARTS and isinstance(text, str) else None


def _refusal_in(content: Json) -> Json:
    parts = content if isinstance(content, list) else []
    return next((p["refusal"] for p in parts if isinstance(p, Mapping) and p.get("refusal")), None)


def _not_a_completion(reply: object) -> TransientError:
    return TransientError(f"the reply is not a chat completion: {str(reply)[:200]!r}")


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
            "or remove api_key_env for a server without a key"
        )
    return {"Authorization": f"Bearer {key}"}


def seconds_to_wait(retry_after: str | None) -> float:
    """Return the seconds that a `Retry-After` header asks for, at most an hour; 0 if unreadable.

    The header holds seconds or an HTTP date (RFC 9110, section 10.2.3).

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
