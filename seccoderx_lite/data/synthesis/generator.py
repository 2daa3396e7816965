"""The generator of tasks: prompts out, parsed replies back, through the cache of replies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from seccoderx_lite.core.errors import GeneratorError
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis.prompts import (
    Answer,
    Request,
    UnusableReply,
    read_reply,
    repair_request,
)
from seccoderx_lite.data.synthesis.replies import Refused, Reply, ReplyCache, key_of
from seccoderx_lite.data.synthesis.sources import ReplySource


@dataclass(frozen=True, slots=True)
class ParsedReply(Generic[Answer]):
    """A reply in the form requested, or why there is none."""

    answer: Answer | None
    reason: str = ""
    """Why there is no answer, in few words, so that equal reasons can be counted."""
    detail: str = ""

    def as_drop(self) -> dict[str, Json]:
        """Return the fields that mark a line as dropped."""
        return {"dropped": self.reason, "detail": self.detail}


class TaskGenerator:
    """Asks a source each prompt once; an unusable reply is repaired once."""

    def __init__(self, source: ReplySource, cache: ReplyCache, identity: Sequence[Json]) -> None:
        """Prepare to ask.

        Args:
            source: where replies come from.
            cache: replies received before.
            identity: part of the cache keys: differs between sources that reply differently.
        """
        self._source = source
        self._cache = cache
        self._identity = list(identity)

    def ask_all(self, requests: Sequence[Request[Answer]]) -> list[ParsedReply[Answer]]:
        """Return a parsed reply per request, in order.

        Raises:
            GeneratorError: the source cannot continue; the replies so far are cached.
        """
        replies = self._replies_to([request.prompt for request in requests])
        parsed = [_parsed(*pair) for pair in zip(requests, replies, strict=True)]
        repairs = {
            number: repair_request(requests[number], reply.text, parsed[number].detail)
            for number, reply in enumerate(replies)
            if isinstance(reply, Reply) and parsed[number].answer is None
        }
        repaired = self._replies_to([repair.prompt for repair in repairs.values()])
        for (number, repair), reply in zip(repairs.items(), repaired, strict=True):
            parsed[number] = _parsed(repair, reply)
        return parsed

    def _replies_to(self, prompts: Sequence[str]) -> list[Reply | Refused]:
        keys = [key_of([*self._identity, prompt]) for prompt in prompts]
        known: dict[str, Reply | Refused] = {
            key: reply for key in keys if (reply := self._cache.get(key)) is not None
        }
        missing = {key: text for key, text in zip(keys, prompts, strict=True) if key not in known}
        missing_keys = list(missing)

        def keep(number: int, reply: Reply | Refused) -> None:
            known[missing_keys[number]] = reply
            if isinstance(reply, Reply):
                self._cache.keep(missing_keys[number], reply)

        if missing:
            self._source.ask_all(list(missing.values()), keep)
            _check_not_all_refused([known[key] for key in missing_keys])
        return [known[key] for key in keys]


def _check_not_all_refused(replies: Sequence[Reply | Refused]) -> None:
    """Raise an error if every request is refused: a setting is wrong, not a prompt."""
    reasons = [reply.reason for reply in replies if isinstance(reply, Refused)]
    if len(reasons) == len(replies) >= 3:
        raise GeneratorError(
            f"the generator refuses every request; the first reason: {reasons[0]}. If it names "
            "response_format, set generator.json_mode to false; if it names another field, "
            "change that field with generator.request"
        )


def _parsed(request: Request[Answer], reply: Reply | Refused) -> ParsedReply[Answer]:
    if isinstance(reply, Refused):
        return ParsedReply(None, "no reply", reply.reason)
    try:
        return ParsedReply(read_reply(request, reply.text))
    except UnusableReply as error:
        return ParsedReply(None, "unusable reply", str(error))
