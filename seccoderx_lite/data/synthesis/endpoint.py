"""The generator of `synth` on an OpenAI-compatible server: tokens, cost and a spending cap.

Retries and errors are in `chat_client`. A model that refuses, or that gives no answer within its
token limit, rejects that one prompt. A wrong setting, or a prompt that gets no reply, ends the run;
every reply so far is kept.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from seccoderx_lite.core.errors import GeneratorError
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.budget import Budget, Price
from seccoderx_lite.data.synthesis.replies import Refused, Reply
from seccoderx_lite.models.chat_client import (
    ChatClient,
    ChatReply,
    RequestRejected,
    TransientError,
)
from seccoderx_lite.recipe.synth import GeneratorRecipe

logger = logging.getLogger(__name__)


class ChatEndpoint:
    """A model at `POST {url}/chat/completions`; safe to use from several threads."""

    def __init__(
        self,
        recipe: GeneratorRecipe,
        spent: float = 0.0,
        on_empty: Callable[[Reply], None] = lambda reply: None,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            recipe: a generator with an endpoint.
            spent: cost of earlier replies, counted towards the cap.
            on_empty: called, in the thread of `ask_all`, with each reply without text: it is
                paid for too.

        Raises:
            RecipeError: the key's environment variable is not set.
        """
        self._recipe = recipe
        self._settings = _request_settings(recipe)
        self._price = Price(recipe.input_price or 0.0, recipe.output_price or 0.0)
        self._budget = Budget(recipe.max_cost, spent)
        self._on_empty = on_empty
        self._empty: list[Reply] = []
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
            self._pass_on_empty()
            on_reply(number, reply)

        try:
            self._client.ask_all(prompts, self.ask, pass_on)
        finally:
            self._pass_on_empty()

    def _pass_on_empty(self) -> None:
        while self._empty:
            self._on_empty(self._empty.pop())

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
        self._budget.reserve(most)
        cost = 0.0
        try:
            completion = self._client.complete(prompt, self._settings)
            reply = self._priced(prompt, completion)
            cost = reply.cost
        finally:
            self._budget.settle(most, cost)
        if not reply.text.strip():
            self._empty.append(reply)
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
        """Return a reply with its tokens and cost; without counts, 3 bytes count as one token."""
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
    why = completion.why_no_text
    if why == "refusal":
        return RequestRejected(f"the model refuses: {str(completion.refusal)[:200]}")
    if why == "content_filter":
        return RequestRejected("the server's content filter removed the reply")
    if why == "length":
        return RequestRejected(
            f"the model gave no answer within {most_tokens} tokens (reasoning may have used them "
            "up); raise generator.max_new_tokens"
        )
    if why == "tool_calls":
        return RequestRejected("the model calls a tool instead of answering")
    return TransientError("the reply is empty")
