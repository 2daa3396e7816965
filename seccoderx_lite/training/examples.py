"""Examples of supervised training: token ids, and which of them are trained.

The prompt is rendered and tokenised as in generation, so that the model is trained after exactly
the tokens that it is asked with.
"""

from typing import Any

from seccoderx_lite.models.generation import following_ids, render_chat
from seccoderx_lite.training.order import Row

_MARK = "\ue000"
"""Stands for an answer; a character of private use, so that no chat template contains it."""

_OPENING = "<think>"


def example(tokenizer: Any, prompt: str, answer: str) -> Row:
    """Return `input_ids`, and `completion_mask` with 1 for every token after the prompt."""
    head, tail = _tokens(tokenizer, prompt, answer)
    return {"input_ids": head + tail, "completion_mask": [0] * len(head) + [1] * len(tail)}


def deciding_example(tokenizer: Any, prompt: str, answer: str, other: str) -> Row:
    """Return an example that trains only the first token in which `answer` differs from `other`."""
    head, tail = _tokens(tokenizer, prompt, answer)
    _, rejected = _tokens(tokenizer, prompt, other)
    pairs = zip(tail, rejected, strict=False)
    place = next(at for at, (own, theirs) in enumerate(pairs) if own != theirs)
    ids = head + tail[: place + 1]
    return {"input_ids": ids, "completion_mask": [0] * (len(ids) - 1) + [1]}


def _tokens(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Return the tokens of a rendered prompt, and those of the answer with the end of its turn."""
    head = render_chat(tokenizer, prompt)
    if head.rstrip().endswith(_OPENING):  # some templates open the block of thoughts themselves
        answer = answer.removeprefix(_OPENING).lstrip()
    return following_ids(tokenizer, [head], [answer + _end_of_turn(tokenizer)])[0]


def _end_of_turn(tokenizer: Any) -> str:
    """Return what the chat template puts after an answer, up to the token that ends generation."""
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _MARK}]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False)
    end = text.rpartition(_MARK)[2]
    stop: str = tokenizer.eos_token or ""
    if stop and stop in end:
        return end[: end.index(stop) + len(stop)]
    return end.rstrip() or stop
