"""A `Generator` on an OpenAI-compatible server."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from seccoderx_lite.core.errors import JudgeError
from seccoderx_lite.core.records import Json
from seccoderx_lite.models.chat_client import (
    ChatClient,
    ChatReply,
    RequestRejected,
    TransientError,
)
from seccoderx_lite.models.generation import Answer
from seccoderx_lite.recipe.recipe import EndpointRecipe

logger = logging.getLogger(__name__)

SHOWN_FAILURES = 4
"""Kinds of failures that a warning names."""

NEUTRAL_SAMPLING: dict[str, Json] = {
    "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0
}  # fmt: skip
"""Sent because a server's defaults can be the model's own, which local generation does not use."""
_VERDICT_TOKENS = 16
"""Enough to reach the word that decides, whatever the tokenizer."""


class EndpointGenerator:
    """A generator on an OpenAI-compatible server (`POST {url}/chat/completions`).

    A model that refuses, is filtered, calls a tool or thinks until its tokens are used up has
    answered, without code or verdict. None means a request that failed on our side.
    """

    def __init__(self, recipe: EndpointRecipe) -> None:
        """Raises RecipeError if the key's environment variable is not set; sends nothing yet."""
        self._recipe = recipe
        urls = [recipe.url] if isinstance(recipe.url, str) else recipe.url
        self._client = ChatClient(urls, recipe, section="endpoint", error=JudgeError)
        self._neutral = NEUTRAL_SAMPLING

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Raises JudgeError if a setting is wrong."""
        return self._ask_all(prompts, _text_of, max_tokens=max_new_tokens, temperature=temperature)

    def answer_probabilities(
        self, prompts: Sequence[str], prefixes: Sequence[str], answers: tuple[str, str]
    ) -> list[float | None]:
        """Raises JudgeError if replies have no log-probabilities, or a setting is wrong."""
        return self._ask_all(
            prompts,
            partial(_first_answer_probability, answers=answers),
            max_tokens=_VERDICT_TOKENS,
            temperature=0.0,
            logprobs=True,
            top_logprobs=20,
        )

    def identity(self) -> str:
        request = f" {self._recipe.request}" if self._recipe.request else ""
        return f"{self._recipe.url} {self._recipe.model}{request}"

    def _ask_all(
        self, prompts: Sequence[str], read: Callable[[ChatReply], Answer | None], **settings: Any
    ) -> list[Answer | None]:
        """Return `read(reply)` per prompt; None without a reply."""
        answers: list[Answer | None] = [None] * len(prompts)
        failures: list[Exception] = []

        def ask(prompt: str) -> Answer | None:
            try:
                return self._client.with_retries(lambda: read(self._complete(prompt, settings)))
            except (TransientError, RequestRejected) as error:
                failures.append(error)
                return None

        self._client.ask_all(prompts, ask, answers.__setitem__)
        if failures:
            kinds = Counter(str(error) for error in reversed(failures))
            last, *others = list(kinds)[:SHOWN_FAILURES]
            logger.warning(
                "%s: %d of %d requests got no answer; the last failure: %s%s",
                self._recipe.url,
                len(failures),
                len(prompts),
                last,
                "".join(f"; {kinds[other]} times: {other}" for other in others),
            )
        return answers

    def _complete(self, prompt: str, settings: Mapping[str, Json]) -> ChatReply:
        """Send a prompt with neutral sampling, without it from when a server rejects such a field.

        The recipe's `request` overrides everything.
        """
        neutral = self._neutral
        try:
            return self._client.complete(prompt, self._request({**neutral, **settings}))
        except RequestRejected as error:
            if not any(field in str(error) for field in neutral):
                raise
            self._neutral = {}
            return self._client.complete(prompt, self._request(settings))

    def _request(self, settings: Mapping[str, Json]) -> dict[str, Json]:
        fields = {**settings, **self._recipe.request}
        return {key: value for key, value in fields.items() if value is not None}


def _text_of(reply: ChatReply) -> str:
    """The text of a reply; thinking that used up all tokens comes back as unfinished thinking."""
    why = reply.why_no_text
    if why == "length":
        return f"<think>\n{reply.reasoning}"
    if why == "refusal":
        return str(reply.refusal)
    if reply.text is None and why is None:
        raise TransientError("the reply has no text content")
    return reply.text or ""


def _first_answer_probability(reply: ChatReply, answers: tuple[str, str]) -> float | None:
    """Return the probability of the first answer at the token where the two differ.

    None if the reply begins with neither of the two.
    """
    text = ""
    for token, candidates in _tokens_of(reply.logprobs):
        weights = [0.0, 0.0]
        for candidate, logprob in candidates.items():
            matches = [_agree((text + candidate).lstrip(), answer) for answer in answers]
            if matches[0] != matches[1]:
                weights[matches[1]] += _probability(logprob)
        if sum(weights):
            return weights[0] / sum(weights)
        text += token
    return None


def _probability(logprob: float) -> float:
    """The probability of a logarithm; NaN if it cannot be one, but for rounding above 0."""
    return math.exp(logprob) if logprob < 1 else math.nan


def _tokens_of(logprobs: Json) -> list[tuple[str, dict[str, float]]]:
    """Return each token of a reply, and the log-probabilities of it and its alternatives."""
    try:
        return [
            (
                str(token["token"]),
                {
                    str(top["token"]): float(top["logprob"])
                    for top in [*token["top_logprobs"], token]
                },
            )
            for token in logprobs["content"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise JudgeError(
            "judge.endpoint: the server returns no log-probabilities, which judge.verdict direct "
            "and cascade need; enable them on the server, or set judge.verdict: reason"
        ) from error


def _agree(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
