"""Questions out, answers in their form back: each asked once, an unusable reply repaired once."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol

from seccoderx_lite.core.errors import GeneratorError
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.endpoint import ChatEndpoint, Refused, Reply
from seccoderx_lite.data.synthesis.prompts import (
    Answer,
    Request,
    Unusable,
    read_reply,
    repair_request,
)
from seccoderx_lite.data.synthesis.replies import Replies, key_of
from seccoderx_lite.recipe.synth import GeneratorRecipe

if TYPE_CHECKING:  # this imports torch
    from seccoderx_lite.models.base import Base


class Source(Protocol):
    """Where replies come from."""

    def ask_all(
        self, prompts: Sequence[str], on_reply: Callable[[int, Reply | Refused], None]
    ) -> None:
        """Tell the reply to each prompt as it comes."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Answer]):
    """An answer in its form, or why there is none."""

    answer: Answer | None
    reason: str = ""
    """Why there is none, in words that many outcomes share."""
    detail: str = ""

    def drop(self) -> dict[str, Json]:
        """Return what marks the record of a failed request as dropped."""
        return {"dropped": self.reason, "detail": self.detail}


class Asker:
    """Asks a source through the replies that are kept."""

    def __init__(self, source: Source, replies: Replies, identity: Sequence[Json]) -> None:
        """Prepare to ask.

        Args:
            source: where replies come from.
            replies: what is kept of them.
            identity: what tells this source from another whose replies would be others.
        """
        self._source = source
        self._replies = replies
        self._identity = list(identity)

    def ask_all(self, requests: Sequence[Request[Answer]]) -> list[Outcome[Answer]]:
        """Return an outcome for each request, in order.

        Raises:
            GeneratorError: the source cannot be asked further; the replies so far are kept.
        """
        outcomes = self._first(requests)
        repairs = {
            number: repair_request(requests[number], reply.text, outcome.detail)
            for number, (reply, outcome) in enumerate(outcomes)
            if isinstance(reply, Reply) and outcome.answer is None
        }
        repaired = dict(zip(repairs, self._first(list(repairs.values())), strict=True))
        return [repaired.get(number, pair)[1] for number, pair in enumerate(outcomes)]

    def _first(
        self, requests: Sequence[Request[Answer]]
    ) -> list[tuple[Reply | Refused, Outcome[Answer]]]:
        prompts = [request.prompt for request in requests]
        return [
            (reply, _outcome(request, reply))
            for request, reply in zip(requests, self._replies_to(prompts), strict=True)
        ]

    def _replies_to(self, prompts: Sequence[str]) -> list[Reply | Refused]:
        keys = [key_of([*self._identity, prompt]) for prompt in prompts]
        known: dict[str, Reply | Refused] = {
            key: reply for key in keys if (reply := self._replies.get(key)) is not None
        }
        missing = {key: text for key, text in zip(keys, prompts, strict=True) if key not in known}
        wanted = list(missing)

        def keep(number: int, reply: Reply | Refused) -> None:
            known[wanted[number]] = reply
            if isinstance(reply, Reply):
                self._replies.keep(wanted[number], reply)

        if missing:
            self._source.ask_all(list(missing.values()), keep)
            _check_not_all_refused([known[key] for key in wanted])
        return [known[key] for key in keys]


def _check_not_all_refused(replies: Sequence[Reply | Refused]) -> None:
    """One refusal is the fault of a prompt; nothing but refusals is the fault of a setting."""
    reasons = [reply.reason for reply in replies if isinstance(reply, Refused)]
    if len(reasons) == len(replies) >= 3:
        raise GeneratorError(
            f"the generator refuses every request; the first time: {reasons[0]}. Where it names "
            "response_format, set generator.json_mode to false; where it names another field, "
            "change it by generator.request"
        )


def _outcome(request: Request[Answer], reply: Reply | Refused) -> Outcome[Answer]:
    if isinstance(reply, Refused):
        return Outcome(None, "no reply", reply.reason)
    try:
        return Outcome(read_reply(request, reply.text))
    except Unusable as error:
        return Outcome(None, "unusable reply", str(error))


class LocalSource:
    """A model in memory, its adapters off; a batch is kept as a whole."""

    def __init__(self, base: "Base", recipe: GeneratorRecipe, seed: int) -> None:
        self._base = base
        self._recipe = recipe
        self._seed = seed

    def ask_all(
        self, prompts: Sequence[str], on_reply: Callable[[int, Reply | Refused], None]
    ) -> None:
        """Answer batch after batch; the sampling depends on the batch, not on what came before."""
        import torch

        from seccoderx_lite.models.generation import RoleGenerator

        generator = RoleGenerator(self._base, "reference", self._recipe.batch_size)
        for start in range(0, len(prompts), self._recipe.batch_size):
            batch = list(prompts[start : start + self._recipe.batch_size])
            torch.manual_seed(seed_of(self._seed, *batch))
            texts = generator.generate(
                batch,
                max_new_tokens=self._recipe.max_new_tokens,
                temperature=self._recipe.temperature,
            )
            for number, text in enumerate(texts):
                tokens = [len(self._base.tokenizer(part)["input_ids"]) for part in
                          (batch[number], text or "")]  # fmt: skip
                on_reply(start + number, Reply(text or "", *tokens))


class RuleSource:
    """Replies by a rule: a function of the prompt alone."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self._answer = answer

    def ask_all(
        self, prompts: Sequence[str], on_reply: Callable[[int, Reply | Refused], None]
    ) -> None:
        """Answer one prompt after the other."""
        for number, prompt in enumerate(prompts):
            on_reply(number, Reply(self._answer(prompt)))


def seed_of(*parts: Json) -> int:
    """Return a seed in [0, 2**63) that depends on nothing but the parts."""
    digest = hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def source_for(
    recipe: GeneratorRecipe, replies: Replies, base: Callable[[], "Base"], seed: int
) -> Source:
    """Return the source a recipe names; a server is not contacted yet."""
    from seccoderx_lite.data.builtin.rule_generator import answer
    from seccoderx_lite.recipe.synth import TEMPLATES

    if recipe.endpoint:
        return ChatEndpoint(recipe, replies.totals()["cost"], replies.keep_cost)
    if recipe.model == TEMPLATES:
        return RuleSource(answer)
    return LocalSource(base(), recipe, seed)
