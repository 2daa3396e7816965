"""An OpenAI-compatible server, asked patiently: retries, rate limits, tokens, cost and a cap.

What a failure means: 429, 5xx, time-outs, broken connections and replies without text are tried
again, with exponential backoff and full jitter; `Retry-After` holds back every request, not only
the one that was told. 400, 413 and 422 are the fault of that one request, and so is a model that
refuses, or that comes to no answer within its tokens. Any other status, and a server that was never
reached, is a wrong setting and ends the run. An error told in the body of a 200 counts as its
code. Prompts are always of one user turn.
"""

import email.utils
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import httpx
import tenacity

from seccoderx_lite.errors import GeneratorError
from seccoderx_lite.generation import key_headers
from seccoderx_lite.records import Json
from seccoderx_lite.synth_recipe import GeneratorRecipe

logger = logging.getLogger(__name__)

LONGEST_BACKOFF_S = 60.0
LONGEST_RETRY_AFTER_S = 3600.0
LARGEST_REPLY_BYTES = 16 * 2**20
_TOLD_WAIT_S = 10.0
_AT_FAULT = (400, 413, 422)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered to one prompt, and what it took."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """A prompt that stays without a reply, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Price:
    """Price of a million tokens, in any currency."""

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Return the price of one request.

        >>> Price(2.0, 10.0).of(500_000, 100_000)
        2.0
        """
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class Budget:
    """A spending cap shared by threads: what a request may cost at most is set aside before it.

    So the cap holds even where all requests in flight turn out as long as they may be. A reply
    that is lost on the way may be billed all the same; nobody here can know.
    """

    def __init__(self, cap: float | None, spent: float = 0.0) -> None:
        self._cap = cap
        self.spent = spent
        self._set_aside = 0.0
        self._changed = threading.Condition()

    def set_aside(self, most: float) -> None:
        """Set aside what a request may cost; wait for others where only they stand in the way.

        Raises:
            GeneratorError: the request could bring the sum above the cap.
        """
        with self._changed:
            while self._cap is not None and self.spent + self._set_aside + most > self._cap:
                if self.spent + most > self._cap:
                    raise GeneratorError(
                        f"generator.max_cost: {self.spent:.4f} of {self._cap:g} are spent, and the "
                        f"next request may cost {most:.4f}; raise the cap and give the same "
                        "command again to go on: every reply is kept"
                    )
                self._changed.wait()
            self._set_aside += most

    def settle(self, most: float, cost: float) -> None:
        """Replace what was set aside by what it did cost."""
        with self._changed:
            self._set_aside -= most
            self.spent += cost
            self._changed.notify_all()


class _TryAgain(Exception):
    """A failure that another attempt may not meet."""


class _AtFault(Exception):
    """The server refuses this one request."""


class ChatEndpoint:
    """A model behind `POST {url}/chat/completions`; safe to use from several threads."""

    def __init__(
        self,
        recipe: GeneratorRecipe,
        spent: float = 0.0,
        on_useless: Callable[[Reply], None] = lambda reply: None,
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            recipe: a generator with an endpoint.
            spent: what earlier replies have cost, counted towards the cap.
            on_useless: is told, in the thread of `ask_all`, each reply without text: it is paid.

        Raises:
            RecipeError: the key's environment variable is not set.
        """
        self._recipe = recipe
        self._url = (recipe.endpoint or "").rstrip("/") + "/chat/completions"
        self._body = _request_body(recipe)
        self._price = Price(recipe.input_price or 0.0, recipe.output_price or 0.0)
        self._budget = Budget(recipe.max_cost, spent)
        self._on_useless = on_useless
        self._useless: list[Reply] = []
        self._stop = threading.Event()
        self._open_from = 0.0
        self._was_reached = False
        self._told_cut = False
        self._client = httpx.Client(
            headers=key_headers(recipe.api_key_env, "generator.api_key_env"),
            timeout=recipe.timeout_s,
            limits=httpx.Limits(max_connections=recipe.concurrency),
        )

    def ask_all(
        self, prompts: Sequence[str], on_reply: Callable[[int, Reply | Refused], None]
    ) -> None:
        """Ask all prompts at once and tell each reply, in the caller's thread, as it comes.

        Where one stays unanswered, or the user interrupts, those in flight are still told before
        the error is raised: they are paid.

        Raises:
            GeneratorError: the server does not answer, a setting is wrong, or the cap is reached.
        """
        self._stop.clear()
        with ThreadPoolExecutor(self._recipe.concurrency) as pool:
            futures = {pool.submit(self.ask, text): n for n, text in enumerate(prompts)}
            try:
                failure = self._tell(futures, on_reply)
            except KeyboardInterrupt:
                self._give_up(futures)
                logger.warning("stopping: the replies in flight are waited for and kept")
                self._tell(futures, on_reply)
                raise
            except BaseException:
                self._give_up(futures)
                raise
        if failure:
            raise failure

    def _tell(
        self,
        futures: "dict[Future[Reply | Refused], int]",
        on_reply: Callable[[int, Reply | Refused], None],
    ) -> GeneratorError | None:
        """Tell each reply and take it off the futures; return the first failure."""
        failure: GeneratorError | None = None
        for future in as_completed(list(futures)):
            number = futures.pop(future)
            while self._useless:
                self._on_useless(self._useless.pop())
            if future.cancelled():
                continue
            error = future.exception()
            if isinstance(error, GeneratorError):
                failure = failure or error
                self._give_up(futures)
            else:
                on_reply(number, future.result())
        return failure

    def _give_up(self, futures: "Mapping[Future[Reply | Refused], int]") -> None:
        self._stop.set()
        for future in futures:
            future.cancel()

    def ask(self, prompt: str) -> Reply | Refused:
        """Return the reply to one prompt.

        Raises:
            GeneratorError: no reply after all attempts, a wrong setting, or the cap is reached.
        """
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._recipe.attempts)
            | tenacity.stop_when_event_set(self._stop),
            wait=tenacity.wait_random_exponential(self._recipe.backoff_s, LONGEST_BACKOFF_S),
            retry=tenacity.retry_if_exception_type(_TryAgain),
            sleep=tenacity.sleep_using_event(self._stop),
            reraise=True,
        )
        try:
            return attempts(self._ask_once, prompt)
        except _AtFault as error:
            return Refused(str(error))
        except _TryAgain as error:
            if self._recipe.skip_unanswered and not self._stop.is_set():
                return Refused(f"no reply after {self._recipe.attempts} attempts: {error}")
            raise GeneratorError(
                f"{self._url}: no reply after {self._recipe.attempts} attempts; the last: "
                f"{error}. Every reply so far is kept: give the same command again to go on"
            ) from error

    def _ask_once(self, prompt: str) -> Reply:
        self._wait_for_rate_limit()
        if self._stop.is_set():
            raise _TryAgain("the run is being stopped")
        # A token is at least a byte, so this is the most the prompt can count; 64 for the chat.
        most = self._price.of(len(prompt.encode()) + 64, self._recipe.most_tokens)
        self._budget.set_aside(most)
        reply = Reply("")
        try:
            choice, reply = self._reply(prompt)
        finally:
            self._budget.settle(most, reply.cost)
        if not reply.text.strip():
            self._useless.append(reply)
            raise _without_text(choice, self._recipe.most_tokens)
        if choice.get("finish_reason") == "length" and not self._told_cut:
            self._told_cut = True
            logger.warning(
                "a reply was cut off at generator.max_new_tokens (%d); raise it if many replies "
                "turn out unusable",
                self._recipe.most_tokens,
            )
        return reply

    def _reply(self, prompt: str) -> tuple[Mapping[str, Json], Reply]:
        """Return what the server chose, and the text in it."""
        status, retry_after, content = self._post(prompt)
        told = content[:200].decode(errors="replace")
        self._check_status(status, retry_after, f"HTTP {status}: {told}")
        try:
            data = json.loads(content)
            if fault := data.get("error"):
                self._check_status(_code_of(fault), retry_after, f"it reports: {told}")
            choice = data["choices"][0]
            text = choice["message"].get("content") or ""
            usage = data.get("usage") or {}
            counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise _TryAgain(f"the reply is no chat completion: {told!r}") from error
        if not isinstance(text, str):
            raise _TryAgain("the reply has no text content")
        sent, received = (
            count if isinstance(count, int) else -(-len(part.encode()) // 3)
            for count, part in zip(counts, (prompt, text), strict=True)
        )
        return choice, Reply(text, sent, received, self._price.of(sent, received))

    def _post(self, prompt: str) -> tuple[int, str | None, bytes]:
        """Return status, `Retry-After` and content; the time-out is one for all of it.

        httpx's own holds between two pieces only: a server that drips would never meet it.
        """
        body = {**self._body, "messages": [{"role": "user", "content": prompt}]}
        until = time.monotonic() + self._recipe.timeout_s
        content = bytearray()
        try:
            with self._client.stream("POST", self._url, json=body) as response:
                self._was_reached = True
                for piece in response.iter_bytes():
                    content += piece
                    if time.monotonic() > until:
                        raise _TryAgain(f"no whole reply within {self._recipe.timeout_s:g} s")
                    if len(content) > LARGEST_REPLY_BYTES:
                        raise _TryAgain(f"the reply is larger than {LARGEST_REPLY_BYTES} bytes")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            if not self._was_reached:
                raise GeneratorError(
                    f"{self._url}: cannot be reached ({error}); check generator.endpoint, and that "
                    "the server is running"
                ) from error
            raise _TryAgain(f"{type(error).__name__}: {error}") from error
        except httpx.HTTPError as error:
            raise _TryAgain(f"{type(error).__name__}: {error}") from error
        return response.status_code, response.headers.get("Retry-After"), bytes(content)

    def _check_status(self, status: int, retry_after: str | None, told: str) -> None:
        if status == 200:
            return
        if status in (408, 409, 425, 429) or status >= 500:
            self._hold_back(retry_after)
            raise _TryAgain(told)
        if status in _AT_FAULT:
            raise _AtFault(told)
        advice = "check generator.endpoint (up to and including /v1) and generator.model"
        if status in (401, 403):
            name = self._recipe.api_key_env
            advice = f"check the key in {name}" if name else "give generator.api_key_env"
        raise GeneratorError(f"{self._url}: {told}; {advice}")

    def _hold_back(self, retry_after: str | None) -> None:
        seconds = seconds_to_wait(retry_after)
        if seconds > _TOLD_WAIT_S and self._open_from < time.monotonic():
            logger.warning("the server asks to wait %.0f s", seconds)
        self._open_from = max(self._open_from, time.monotonic() + seconds)

    def _wait_for_rate_limit(self) -> None:
        while not self._stop.is_set() and (left := self._open_from - time.monotonic()) > 0:
            self._stop.wait(left)


def _request_body(recipe: GeneratorRecipe) -> dict[str, Json]:
    """Return the request without its messages."""
    body: dict[str, Any] = {
        "model": recipe.model,
        "max_tokens": recipe.max_new_tokens,
        "temperature": recipe.temperature,
    }
    if recipe.json_mode:
        body["response_format"] = {"type": "json_object"}
    return {key: value for key, value in {**body, **recipe.request}.items() if value is not None}


def _code_of(fault: Json) -> int:
    """Return the status that an error in a body stands for."""
    code = fault.get("code") if isinstance(fault, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _without_text(choice: Mapping[str, Json], most_tokens: int) -> Exception:
    """Return what a reply without text means."""
    if refusal := choice["message"].get("refusal"):
        return _AtFault(f"the model refuses: {str(refusal)[:200]}")
    if choice.get("finish_reason") == "content_filter":
        return _AtFault("the server's content filter took the reply")
    if choice.get("finish_reason") == "length":
        return _AtFault(
            f"the model came to no answer within {most_tokens} tokens (it may have spent them "
            "on reasoning); raise generator.max_new_tokens"
        )
    return _TryAgain("the reply is empty")


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
