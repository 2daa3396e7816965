"""Text in, text out: batched generation on the loaded base, or from an OpenAI-compatible server."""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from seccoderx_lite.errors import JudgeError, RecipeError
from seccoderx_lite.recipe import EndpointRecipe

if TYPE_CHECKING:  # these import torch
    from seccoderx_lite.roles import Base, Role


class Generator(Protocol):
    """Anything that completes prompts; None stands for a prompt whose generation failed."""

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion a prompt, in order; temperature 0 is greedy."""
        ...


def render_chat(tokenizer: Any, prompt: str) -> str:
    """Return a prompt as one user turn of the model's chat, ready for the assistant's answer."""
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    return text


def generate_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> list[str]:
    """Return one completion a prompt from the active adapter, in the order of the prompts.

    Prompts are sorted by length into batches, so that little of a batch is padding. `on_batch` is
    told how many prompts each finished batch had.
    """
    import torch

    texts = [render_chat(tokenizer, prompt) for prompt in prompts]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]), reverse=True)
    sampling: dict[str, Any] = {
        "do_sample": False,
        "temperature": None,
        "top_k": None,
        "top_p": None,
    }
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    completions = [""] * len(ids)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer.pad(
            {"input_ids": [ids[index] for index in chosen]},
            padding_side="left",
            return_tensors="pt",
        ).to(next(model.parameters()).device)
        with torch.no_grad():
            output = model.generate(
                **batch,
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                **sampling,
            )
        new_ids = output[:, batch["input_ids"].shape[1] :]
        decoded = tokenizer.batch_decode(new_ids, skip_special_tokens=True)
        for index, text in zip(chosen, decoded, strict=True):
            completions[index] = text
        if on_batch:
            on_batch(len(chosen))
    return completions


class RoleGenerator:
    """A generator that answers as one role of the shared base."""

    def __init__(self, base: "Base", role: "Role", batch_size: int) -> None:
        self._base = base
        self._role = role
        self._batch_size = batch_size

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion a prompt, in order."""
        from seccoderx_lite.roles import acting_as

        with acting_as(self._role, self._base.model, self._base.tokenizer) as model:
            return list(
                generate_texts(
                    model,
                    self._base.tokenizer,
                    prompts,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    batch_size=self._batch_size,
                )
            )


class EndpointGenerator:
    """A generator behind an OpenAI-compatible server (`POST {url}/chat/completions`)."""

    def __init__(self, recipe: EndpointRecipe) -> None:
        self._recipe = recipe
        urls = [recipe.url] if isinstance(recipe.url, str) else recipe.url
        self._urls = itertools.cycle(urls)  # replicas in turn, whichever thread asks
        self._key = None
        if recipe.api_key_env:
            self._key = os.environ.get(recipe.api_key_env)
            if not self._key:
                raise RecipeError(
                    f"endpoint.api_key_env: the environment variable {recipe.api_key_env} is not "
                    "set; set it, or leave api_key_env out for a server without a key"
                )

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion a prompt, in order; None where the server failed."""

        def ask(prompt: str) -> str | None:
            try:
                return self._ask(prompt, max_new_tokens, temperature)
            except JudgeError:
                return None

        with ThreadPoolExecutor(self._recipe.concurrency) as pool:
            return list(pool.map(ask, prompts))

    def _ask(self, prompt: str, max_new_tokens: int, temperature: float) -> str:
        body = {
            "model": self._recipe.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_new_tokens,
            "temperature": temperature,
        }
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        url = next(self._urls).rstrip("/") + "/chat/completions"
        try:
            reply = httpx.post(url, json=body, headers=headers, timeout=self._recipe.timeout_s)
            reply.raise_for_status()
            content = reply.json()["choices"][0]["message"]["content"]
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            raise JudgeError(f"{url}: {type(error).__name__}: {error}") from error
        if not isinstance(content, str):
            raise JudgeError(f"{url}: the reply has no text content")
        return content
