"""The generator of `synth` behind an OpenAI-compatible server: tokens, cost and a cap on it.

How patiently it is asked, and what a failure means, is in `chat_client`. A model that refuses, or
that comes to no answer within its tokens, is the fault of that one request as well. A wrong
setting, or a request that stays unanswered, ends the run: every reply so far is kept. Prompts are
always of one user turn.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.core.errors import GeneratorError
from seccoderx_lite.core.records import Json
from seccoderx_lite.models.chat_client import AtFault, ChatClient, TryAgain, not_a_completion
from seccoderx_lite.recipe.synth import GeneratorRecipe

logger = logging.getLogger(__name__)


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
        self._body = _request_body(recipe)
        self._price = Price(recipe.input_price or 0.0, recipe.output_price or 0.0)
        self._budget = Budget(recipe.max_cost, spent)
        self._on_useless = on_useless
        self._useless: list[Reply] = []
        self._told_cut = False
        self._client = ChatClient(
            [recipe.endpoint or ""], recipe, section="generator", error=GeneratorError
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
        self._client.stop.clear()
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
        self._client.stop.set()
        for future in futures:
            future.cancel()

    def ask(self, prompt: str) -> Reply | Refused:
        """Return the reply to one prompt.

        Raises:
            GeneratorError: no reply after all attempts, a wrong setting, or the cap is reached.
        """
        try:
            return self._client.patiently(lambda: self._ask_once(prompt))
        except AtFault as error:
            return Refused(str(error))
        except TryAgain as error:
            if self._recipe.skip_unanswered and not self._client.stop.is_set():
                return Refused(f"no reply after {self._recipe.attempts} attempts: {error}")
            raise GeneratorError(
                f"{self._recipe.endpoint}: no reply after {self._recipe.attempts} attempts; the "
                f"last: {error}. Every reply so far is kept: give the same command again to go on"
            ) from error

    def _ask_once(self, prompt: str) -> Reply:
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
        data = self._client.post({**self._body, "messages": [{"role": "user", "content": prompt}]})
        try:
            choice = data["choices"][0]
            text = choice["message"].get("content") or ""
            usage = data.get("usage") or {}
            counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise not_a_completion(data) from error
        if not isinstance(text, str):
            raise TryAgain("the reply has no text content")
        sent, received = (
            count if isinstance(count, int) else -(-len(part.encode()) // 3)
            for count, part in zip(counts, (prompt, text), strict=True)
        )
        return choice, Reply(text, sent, received, self._price.of(sent, received))


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


def _without_text(choice: Mapping[str, Json], most_tokens: int) -> Exception:
    """Return what a reply without text means."""
    if refusal := choice["message"].get("refusal"):
        return AtFault(f"the model refuses: {str(refusal)[:200]}")
    if choice.get("finish_reason") == "content_filter":
        return AtFault("the server's content filter took the reply")
    if choice.get("finish_reason") == "length":
        return AtFault(
            f"the model came to no answer within {most_tokens} tokens (it may have spent them "
            "on reasoning); raise generator.max_new_tokens"
        )
    return TryAgain("the reply is empty")
