"""The generator of `synth` on an OpenAI-compatible server: tokens, cost and a spending cap.

Retries and errors are in `chat_client`. A model that refuses, or that gives no answer within its
token limit, rejects that one prompt. A wrong setting, or a prompt that gets no reply, ends the run;
every reply so far is kept.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.core.errors import GeneratorError
from seccoderx_lite.core.records import Json
from seccoderx_lite.models.chat_client import (
    ChatClient,
    ChatReply,
    RequestRejected,
    TransientError,
)
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
    """A model at `POST {url}/chat/completions`; safe to use from several threads."""

    def __init__(
        self,
        recipe: GeneratorRecipe,
        spent: float = 0.0,
        on_useless: Callable[[Reply], None] = lambda reply: None,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            recipe: a generator with an endpoint.
            spent: cost of earlier replies, counted towards the cap.
            on_useless: called, in the thread of `ask_all`, with each reply without text: it is
                paid for too.

        Raises:
            RecipeError: the key's environment variable is not set.
        """
        self._recipe = recipe
        self._settings = _request_settings(recipe)
        self._price = Price(recipe.input_price or 0.0, recipe.output_price or 0.0)
        self._budget = Budget(recipe.max_cost, spent)
        self._on_useless = on_useless
        self._useless: list[Reply] = []
        self._has_warned_of_cut = False
        self._client = ChatClient(
            [recipe.endpoint or ""], recipe, section="generator", error=GeneratorError
        )

    def ask_all(
        self, prompts: Sequence[str], on_reply: Callable[[int, Reply | Refused], None]
    ) -> None:
        """Send all prompts in parallel; call `on_reply` in the caller's thread as replies arrive.

        After an error or an interrupt, replies in flight are still passed on: they are paid for.

        Raises:
            GeneratorError: the server does not answer, a setting is wrong, or the cap is reached.
        """

        def pass_on(number: int, reply: Reply | Refused) -> None:
            self._pass_on_useless()
            on_reply(number, reply)

        try:
            self._client.ask_all(prompts, self.ask, pass_on)
        finally:
            self._pass_on_useless()

    def _pass_on_useless(self) -> None:
        while self._useless:
            self._on_useless(self._useless.pop())

    def ask(self, prompt: str) -> Reply | Refused:
        """Return the reply to one prompt.

        Raises:
            GeneratorError: no reply after all attempts, a wrong setting, or the cap is reached.
        """
        try:
            return self._client.with_retries(lambda: self._ask_once(prompt))
        except RequestRejected as error:
            return Refused(str(error))
        except TransientError as error:
            if self._recipe.skip_unanswered and not self._client.is_stopping:
                return Refused(f"no reply after {self._recipe.attempts} attempts: {error}")
            raise GeneratorError(
                f"{self._recipe.endpoint}: no reply after {self._recipe.attempts} attempts; the "
                f"last failure: {error}. Every reply so far is kept: repeat the command to go on"
            ) from error

    def _ask_once(self, prompt: str) -> Reply:
        # A token is at least a byte, so this is the most the prompt can count; 64 for the chat.
        most = self._price.of(len(prompt.encode()) + 64, self._recipe.most_tokens)
        self._budget.set_aside(most)
        cost = 0.0
        try:
            completion = self._client.complete(prompt, self._settings)
            reply = self._priced(prompt, completion)
            cost = reply.cost
        finally:
            self._budget.settle(most, cost)
        if not reply.text.strip():
            self._useless.append(reply)
            raise _without_text(completion, self._recipe.most_tokens)
        if completion.finish_reason == "length" and not self._has_warned_of_cut:
            self._has_warned_of_cut = True
            logger.warning(
                "a reply was cut off at generator.max_new_tokens (%d); raise it if many replies "
                "are unusable",
                self._recipe.most_tokens,
            )
        return reply

    def _priced(self, prompt: str, completion: ChatReply) -> Reply:
        """Return a reply with its tokens and cost; a server without counts gets 3 bytes a token."""
        text = completion.text or ""
        counts = completion.usage.get("prompt_tokens"), completion.usage.get("completion_tokens")
        sent, received = (
            count if isinstance(count, int) else -(-len(part.encode()) // 3)
            for count, part in zip(counts, (prompt, text), strict=True)
        )
        return Reply(text, sent, received, self._price.of(sent, received))


def _request_settings(recipe: GeneratorRecipe) -> dict[str, Json]:
    """Return the fields of a request besides model and messages."""
    settings: dict[str, Any] = {
        "max_tokens": recipe.max_new_tokens,
        "temperature": recipe.temperature,
    }
    if recipe.json_mode:
        settings["response_format"] = {"type": "json_object"}
    settings |= recipe.request
    return {key: value for key, value in settings.items() if value is not None}


def _without_text(completion: ChatReply, most_tokens: int) -> Exception:
    """Return the error for a reply without text."""
    if completion.refusal:
        return RequestRejected(f"the model refuses: {str(completion.refusal)[:200]}")
    if completion.finish_reason == "content_filter":
        return RequestRejected("the server's content filter removed the reply")
    if completion.finish_reason == "length":
        return RequestRejected(
            f"the model gave no answer within {most_tokens} tokens (reasoning may have used them "
            "up); raise generator.max_new_tokens"
        )
    return TransientError("the reply is empty")
