"""Text in, text out: batched generation on the loaded base, or from an OpenAI-compatible server."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from seccoderx_lite.core.errors import JudgeError
from seccoderx_lite.models.chat_client import AtFault, ChatClient, TryAgain, not_a_completion
from seccoderx_lite.recipe.recipe import EndpointRecipe

if TYPE_CHECKING:  # these import torch
    from seccoderx_lite.models.prefix_cache import PrefixCache
    from seccoderx_lite.models.roles import Base, Role

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class Generator(Protocol):
    """Anything that completes prompts; None stands for a prompt whose generation failed."""

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion a prompt, in order; temperature 0 is greedy."""
        ...

    def choose(
        self, prompts: Sequence[str], shared: Sequence[str], choices: tuple[str, str]
    ) -> list[float | None]:
        """Return for each prompt the probability of the first answer against the second.

        `shared` is what each prompt begins with and others begin with too.
        """
        ...

    def identity(self) -> str:
        """Return what tells this generator from one that could answer otherwise."""
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
    **how: Any,
) -> list[str]:
    """Return one completion a prompt from the active adapter, in the order of the prompts.

    Prompts are sorted by length into batches, so that little of a batch is padding. `on_batch` is
    told how many prompts each finished batch had; `how` goes to the model's `generate`.
    """
    import torch

    from seccoderx_lite.models.prefix_cache import padded_left

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
    # Else that of the model's generation config (1.1 in Qwen2.5-Coder), which training never sees.
    sampling["repetition_penalty"] = 1.0
    completions = [""] * len(ids)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch, mask = padded_left(model, tokenizer, [ids[index] for index in chosen])
        with torch.no_grad():
            output = model.generate(
                input_ids=batch,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                **sampling,
                **how,
            )
        new_ids = output[:, batch.shape[1] :]
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
        self._prefixes: PrefixCache | None = None

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float
    ) -> list[str | None]:
        """Return one completion a prompt, in order."""
        from seccoderx_lite.models.decoding import generating
        from seccoderx_lite.models.roles import acting_as

        with (
            acting_as(self._role, self._base.model, self._base.tokenizer) as model,
            generating(self._base) as how,
        ):
            return list(
                generate_texts(
                    model,
                    self._base.tokenizer,
                    prompts,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    batch_size=self._batch_size,
                    **how,
                )
            )

    def choose(
        self, prompts: Sequence[str], shared: Sequence[str], choices: tuple[str, str]
    ) -> list[float | None]:
        """Return the probabilities from one forward pass; see `choice`."""
        from seccoderx_lite.models.choice import choice_probabilities
        from seccoderx_lite.models.decoding import generating
        from seccoderx_lite.models.prefix_cache import PrefixCache, weights_of
        from seccoderx_lite.models.roles import acting_as

        self._prefixes = self._prefixes or PrefixCache()
        tokenizer = self._base.tokenizer
        texts = [render_chat(tokenizer, prompt) for prompt in prompts]
        heads = [text.partition(head)[0] + head if head and head in text else ""
                 for text, head in zip(texts, shared, strict=True)]  # fmt: skip
        with acting_as(self._role, self._base.model, tokenizer) as model, generating(self._base):
            self._prefixes.under(weights_of(model, self._role))
            return list(
                choice_probabilities(
                    model,
                    tokenizer,
                    texts,
                    heads,
                    choices,
                    batch_size=self._batch_size,
                    prefixes=self._prefixes,
                )
            )

    @property
    def is_on_cpu(self) -> bool:
        """Whether the base is."""
        return self._base.device.type == "cpu"

    def identity(self) -> str:
        """Return the base's name and precision, and a digest of the role's adapter."""
        from seccoderx_lite.models.roles import adapter_digest

        base = self._base
        digest = adapter_digest(base.model, self._role) if self._role != "reference" else "bare"
        precision = "nf4" if getattr(base.model, "is_loaded_in_4bit", False) else base.model.dtype
        return f"{base.name} {precision} {digest}"


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

    def choose(
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
