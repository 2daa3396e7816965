"""The Modelfile with which Ollama runs a GGUF file.

Ollama does not run the chat template in a GGUF file. It has templates of its own in Go's syntax;
where a Modelfile has none, it takes one whose Jinja source is similar, or no template at all. So
the base's template is rendered with marks in place of the messages, and what is around them becomes
a template for Ollama. Both are compared on chats of several turns; a part that differs is left out,
and the Modelfile says so. Tools and images are not translated.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

Chat = list[dict[str, str]]

_SYSTEM, _USERS, _ANSWERS = "(system)", ("(u0)", "(u1)", "(u2)"), ("(a0)", "(a1)")


@dataclass(frozen=True, slots=True)
class ChatPieces:
    """The texts that a chat template writes around messages."""

    first: str
    """Before the first message of the user, without a system message."""
    tail: str
    """After the last message of the user."""
    turn: tuple[str, str] | None = None
    """Before and after an answer; None if only one turn can be translated."""
    system: tuple[str, str] | None = None
    """Before and after a system message; None if it cannot be translated."""

    def render(self, chat: Chat) -> str:
        """Return a chat as the Modelfile's template writes it."""
        head, before, after = self.first, *(self.turn or ("", ""))
        if chat[0]["role"] == "system" and self.system:
            head = self.system[0] + chat[0]["content"] + self.system[1]
        texts = (
            before + message["content"] + after
            if message["role"] == "assistant"
            else message["content"]
            for message in chat
            if message["role"] != "system"
        )
        return head + "".join(texts) + self.tail


def modelfile(tokenizer: Any, file: str) -> str:
    """Return the Modelfile of a GGUF file in the same folder, for `ollama create NAME`."""
    lines = [f"FROM ./{file}"]
    if pieces := chat_pieces(tokenizer):
        if not pieces.turn:
            lines.append("# Only the first turn is as the base's chat template writes it.")
        if not pieces.system:
            lines.append("# System messages are left out.")
        lines.append(f'TEMPLATE """{go_template(pieces)}"""')
    else:
        lines.append("# The base's chat template could not be translated; add a TEMPLATE here.")
    if tokenizer.eos_token:
        lines.append(f"PARAMETER stop {json.dumps(tokenizer.eos_token, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def go_template(pieces: ChatPieces) -> str:
    """Return a Go template that writes chats as `pieces` do."""
    first, tail = _literal(pieces.first), _literal(pieces.tail)
    if pieces.system:
        before, after = map(_literal, pieces.system)
        asked = f"{before}{{{{ .System }}}}{after}"
        first = f"{{{{ if .System }}}}{asked}{{{{ else }}}}{first}{{{{ end }}}}"
    if not pieces.turn:
        return f"{first}{{{{ .Prompt }}}}{tail}{{{{ .Response }}}}"
    before, after = map(_literal, pieces.turn)
    return (
        f"{first}{{{{ range $i, $message := .Messages }}}}"
        "{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        f'{{{{ if eq $message.Role "user" }}}}{{{{ $message.Content }}}}'
        f"{{{{ if $last }}}}{tail}{{{{ end }}}}"
        f'{{{{ else if eq $message.Role "assistant" }}}}{before}{{{{ $message.Content }}}}'
        f"{{{{ if not $last }}}}{after}{{{{ end }}}}{{{{ end }}}}{{{{ end }}}}"
    )


def chat_pieces(tokenizer: Any) -> ChatPieces | None:
    """Return the texts around messages, as far as they are the same in every chat.

    None if even a single message is changed or repeated.
    """
    (question, *_), (answer, *_) = _USERS, _ANSWERS
    one = _split(_rendered(tokenizer, _chat(1)), [question])
    two = _split(_rendered(tokenizer, _chat(2)), [question, answer, _USERS[1]])
    asked = _split(_rendered(tokenizer, _chat(1, _SYSTEM)), [_SYSTEM, question])
    if one is None:
        return None
    pieces = ChatPieces(
        one[0],
        one[1],
        (two[1], two[2]) if two else None,
        (asked[0], asked[1]) if asked else None,
    )
    return _without_bos(_verified(pieces, tokenizer), tokenizer)


def _verified(pieces: ChatPieces, tokenizer: Any) -> ChatPieces:
    """Return the pieces without those that render a longer chat in another way."""

    def agrees(chats: Sequence[Chat]) -> bool:
        return all(_rendered(tokenizer, chat) == pieces.render(chat) for chat in chats)

    turn = pieces.turn if agrees([_chat(2), _chat(3)]) else None
    turns = (1, 2, 3) if turn else (1,)
    system = pieces.system if agrees([_chat(n, _SYSTEM) for n in turns]) else None
    return ChatPieces(pieces.first, pieces.tail, turn, system)


def _without_bos(pieces: ChatPieces, tokenizer: Any) -> ChatPieces:
    """Leave out the first token where llama.cpp adds it, as the tokenizer does."""
    ids = tokenizer("x")["input_ids"]
    if tokenizer.bos_token_id is None or ids[0] != tokenizer.bos_token_id:
        return pieces
    bos = tokenizer.bos_token
    system = pieces.system and (pieces.system[0].removeprefix(bos), pieces.system[1])
    return ChatPieces(pieces.first.removeprefix(bos), pieces.tail, pieces.turn, system)


def _chat(turns: int, system: str | None = None) -> Chat:
    chat = [{"role": "system", "content": system}] if system else []
    for number in range(turns):
        if number:
            chat.append({"role": "assistant", "content": _ANSWERS[number - 1]})
        chat.append({"role": "user", "content": _USERS[number]})
    return chat


def _rendered(tokenizer: Any, chat: Chat) -> str | None:
    """Return a chat in the base's template, ready for the answer; None if that refuses it."""
    try:
        text: str = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    except (TemplateError, TypeError):
        return None
    return text


def _split(text: str | None, marks: Sequence[str]) -> list[str] | None:
    """Return the texts around marks; None unless each occurs once, in this order."""
    pieces = []
    for mark in marks:
        if text is None or text.count(mark) != 1:
            return None
        piece, _, text = text.partition(mark)
        pieces.append(piece)
    return [*pieces, text] if text is not None else None


def _literal(text: str) -> str:
    """A text in a Go template within the three quotes of a Modelfile."""
    return text.replace("{{", '{{ "{{" }}').replace('"""', r'{{ "\"\"\"" }}')
