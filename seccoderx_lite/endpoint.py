"""The generator of `synth` behind an OpenAI-compatible server: tokens, cost and a cap on it.

How patiently it is asked, and what a failure means, is in `chat_client`. A wrong setting, or a
request that stays unanswered, ends the run: every reply so far is kept. Prompts are always of one
user turn.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from seccoderx_lite.chat_client import AtFault, ChatClient, TryAgain, not_a_completion
from seccoderx_lite.errors import GeneratorError
from seccoderx_lite.synth_recipe import GeneratorRecipe


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

    def __init__(self, recipe: GeneratorRecipe, spent: float = 0.0) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            recipe: a generator with an endpoint.
            spent: what earlier replies have cost, counted towards the cap.

        Raises:
            RecipeError: the key's environment variable is not set.
        """
        self._recipe = recipe
        self._price = Price(recipe.input_price or 0.0, recipe.output_price or 0.0)
        self._budget = Budget(recipe.max_cost, spent)
        self._client = ChatClient(
            [recipe.endpoint or ""],
            api_key_env=recipe.api_key_env,
            timeout_s=recipe.timeout_s,
            concurrency=recipe.concurrency,
            attempts=recipe.attempts,
            backoff_s=recipe.backoff_s,
            section="generator",
            error=GeneratorError,
        )

    def ask_all(
        self, prompts: Sequence[str], on_reply: Callable[[int, Reply | Refused], None]
    ) -> None:
        """Ask all prompts at once and tell each reply, in the caller's thread, as it comes.

        Where one stays unanswered, those in flight are still told before the error is raised.

        Raises:
            GeneratorError: the server does not answer, a setting is wrong, or the cap is reached.
        """
        self._client.stop.clear()
        failure: GeneratorError | None = None
        with ThreadPoolExecutor(self._recipe.concurrency) as pool:
            futures = {pool.submit(self.ask, text): n for n, text in enumerate(prompts)}
            try:
                for future in as_completed(futures):
                    if future.cancelled():
                        continue
                    error = future.exception()
                    if isinstance(error, GeneratorError):
                        failure = failure or error
                        self._client.stop.set()
                        for other in futures:
                            other.cancel()
                    else:
                        on_reply(futures[future], future.result())
            except BaseException:
                self._client.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if failure:
            raise failure

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
        most = self._price.of(len(prompt.encode()) + 64, self._recipe.max_new_tokens)
        self._budget.set_aside(most)
        reply = Reply("")
        try:
            reply = self._reply(prompt)
        finally:
            self._budget.settle(most, reply.cost)
        if not reply.text.strip():
            raise TryAgain("the reply is empty")
        return reply

    def _reply(self, prompt: str) -> Reply:
        body: dict[str, Any] = {
            "model": self._recipe.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self._recipe.max_new_tokens,
            "temperature": self._recipe.temperature,
        }
        if self._recipe.json_mode:
            body["response_format"] = {"type": "json_object"}
        data = self._client.post(body)
        try:
            text = data["choices"][0]["message"]["content"] or ""
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
        return Reply(text, sent, received, self._price.of(sent, received))
