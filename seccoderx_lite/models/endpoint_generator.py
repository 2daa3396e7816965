"""A generator behind an OpenAI-compatible server."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from seccoderx_lite.core.errors import JudgeError
from seccoderx_lite.models.chat_client import AtFault, ChatClient, TryAgain, not_a_completion
from seccoderx_lite.recipe.recipe import EndpointRecipe

if TYPE_CHECKING:  # these import torch
    pass
from seccoderx_lite.models.generation import Answer

logger = logging.getLogger(__name__)


class EndpointGenerator:
    """A generator behind an OpenAI-compatible server (`POST {url}/chat/completions`)."""

    def __init__(self, recipe: EndpointRecipe) -> None:
        """Prepare to ask; nothing is sent yet.

        Raises:
            RecipeError: the key's environment variable is not set.
        """
        self._recipe = recipe
        self._client = ChatClient(
            [recipe.url] if isinstance(recipe.url, str) else recipe.url,
            recipe,
            section="endpoint",
            error=JudgeError,
        )

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion a prompt, in order; None where the server gave none.

        Raises:
            JudgeError: a setting is wrong.
        """
        return self._ask_all(prompts, _text_of, max_tokens=max_new_tokens, temperature=temperature)

    def answer_probabilities(
        self, prompts: Sequence[str], shared: Sequence[str], choices: tuple[str, str]
    ) -> list[float | None]:
        """Return the probabilities from the server's log-probabilities; None where it gave none.

        Raises:
            JudgeError: the server answers, but without log-probabilities; or a setting is wrong.
        """
        return self._ask_all(
            prompts,
            lambda choice: _choice_probability(choice, choices),
            max_tokens=_CHOICE_TOKENS,
            temperature=0.0,
            logprobs=True,
            top_logprobs=20,
        )

    def identity(self) -> str:
        """Return the server's address and the model's name there."""
        return f"{self._recipe.url} {self._recipe.model}"

    def _ask_all(
        self, prompts: Sequence[str], read: Callable[[Any], Answer | None], **settings: Any
    ) -> list[Answer | None]:
        """Return what `read` makes of the first choice of each reply; None without a reply."""
        failures: list[Exception] = []

        def ask(prompt: str) -> Answer | None:
            message = {"role": "user", "content": prompt}
            body = {"model": self._recipe.model, "messages": [message], **settings}
            try:
                return self._client.patiently(lambda: read(_choice_of(self._client.post(body))))
            except (TryAgain, AtFault) as error:
                failures.append(error)
                return None

        self._client.stop.clear()
        with ThreadPoolExecutor(self._recipe.concurrency) as pool:
            try:
                answers = list(pool.map(ask, prompts))
            except BaseException:
                self._client.stop.set()  # what is in flight shall not be waited for
                raise
        if failures:
            logger.warning("%s: %d of %d requests stay without an answer; the last: %s",
                           self._recipe.url, len(failures), len(prompts), failures[-1])  # fmt: skip
        return answers


_CHOICE_TOKENS = 16
"""Enough to reach the word of the verdict, whatever the tokens."""


def _choice_of(reply: Mapping[str, Any]) -> Any:
    try:
        return reply["choices"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise not_a_completion(reply) from error


def _text_of(choice: Any) -> str:
    try:
        content = choice["message"]["content"]
    except (KeyError, TypeError) as error:
        raise not_a_completion(choice) from error
    if not isinstance(content, str):
        raise TryAgain("the reply has no text content")
    return content


def _choice_probability(choice: Any, choices: tuple[str, str]) -> float | None:
    """Return the probability of the first answer against the second where the reply parts them.

    None when the reply is neither of the two.
    """
    try:
        tokens = [
            [(str(top["token"]), float(top["logprob"])) for top in [*told["top_logprobs"], told]]
            for told in choice["logprobs"]["content"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise JudgeError(
            "judge.endpoint: the server gives no log-probabilities, which judge.verdict direct and "
            "cascade need; serve the judge with them on, or set judge.verdict: reason"
        ) from error
    said = ""
    for candidates in tokens:
        weights = [0.0, 0.0]
        for token, logprob in dict(candidates).items():
            begins = [_agree((said + token).lstrip(), text) for text in choices]
            if begins[0] != begins[1]:
                weights[begins[1]] += math.exp(logprob)
        if sum(weights):
            return weights[0] / sum(weights)
        said += candidates[-1][0]
    return None


def _agree(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
