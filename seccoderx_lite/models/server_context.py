"""How many tokens a served model can read, asked of its server before a long prompt is sent.

vLLM says both: the context in `GET {url}/models`, and the tokens of a prompt in `POST /tokenize`. A
server that does not say is asked as if everything fitted.
"""

import functools
import logging
from typing import Any

import httpx

from seccoderx_lite.models.chat_client import key_headers
from seccoderx_lite.recipe.recipe import EndpointRecipe

logger = logging.getLogger(__name__)

_MOST_RESERVED = 4
"""At most a quarter of the context is kept free for the answer, as for a local model."""
_TEMPLATE_BYTES = 1024
"""More than what a chat template adds to a prompt."""


class ServerContext:
    """The context of a model behind a server."""

    def __init__(self, recipe: EndpointRecipe) -> None:
        """Prepare the questions; nothing is sent yet."""
        self._recipe = recipe
        self._url = (recipe.url if isinstance(recipe.url, str) else recipe.url[0]).rstrip("/")

    def too_long(self, prompt: str, max_new_tokens: int) -> tuple[int, int] | None:
        """Return the prompt's tokens and their limit if it is too long; None if it may fit."""
        if self._context is None:
            return None
        limit = self._context - min(max_new_tokens, self._context // _MOST_RESERVED)
        if len(prompt.encode()) + _TEMPLATE_BYTES <= limit:  # a token has at least one byte
            return None
        tokens = self._count(prompt)
        return (tokens, limit) if tokens is not None and tokens > limit else None

    @functools.cached_property
    def _context(self) -> int | None:
        models = self._ask("GET", f"{self._url}/models")
        data = models.get("data") if isinstance(models, dict) else None
        entries = {
            entry.get("id"): entry
            for entry in (data if isinstance(data, list) else [])
            if isinstance(entry, dict)
        }
        own = entries.get(self._recipe.model, {})
        # vLLM gives no length for an adapter, but the name of its base as `parent`.
        for entry in (own, entries.get(own.get("parent"), {})):
            if isinstance(length := entry.get("max_model_len"), int):
                return length
        return None

    def _count(self, prompt: str) -> int | None:
        message = {"role": "user", "content": prompt}
        body = {"model": self._recipe.model, "messages": [message]}
        reply = self._ask("POST", f"{self._url.removesuffix('/v1')}/tokenize", body)
        count = reply.get("count") if isinstance(reply, dict) else None
        return count if isinstance(count, int) else None

    def _ask(self, method: str, url: str, body: Any = None) -> Any:
        headers = key_headers(self._recipe.api_key_env, "endpoint")
        try:
            response = httpx.request(
                method, url, json=body, headers=headers, timeout=self._recipe.timeout_s
            )
            return response.json() if response.status_code == 200 else None
        except (httpx.HTTPError, ValueError) as error:
            logger.debug("%s: %s", url, error)
            return None
