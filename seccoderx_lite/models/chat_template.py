"""Arguments of a model's chat template, set in the template itself.

So everything that renders a prompt gets them alike, in this process and with the exported model:
training, rollouts, the judge, evaluation.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from seccoderx_lite.core.errors import ModelError


def with_arguments(template: Any, arguments: Mapping[str, Any], base: str) -> Any:
    """Return a chat template in which arguments such as `enable_thinking` have these values.

    Raises:
        ModelError: the template does not use one of them.

    >>> with_arguments("{{ 'x' if enable_thinking else 'y' }}", {"enable_thinking": False}, "b")
    "{%- set enable_thinking = false -%}{{ 'x' if enable_thinking else 'y' }}"
    """
    if unused := [name for name in arguments if not _uses(template, name)]:
        raise ModelError(
            f"model.chat_template_kwargs: the chat template of {base} does not use {unused[0]}; "
            "remove it, or correct the name"
        )
    return with_known_arguments(template, arguments)


def with_known_arguments(template: Any, arguments: Mapping[str, Any]) -> Any:
    """Like `with_arguments`, leaving out those that the template does not use."""
    if isinstance(template, dict):  # several templates by name
        return {name: with_known_arguments(text, arguments) for name, text in template.items()}
    lines = [
        "{%- set " + f"{name} = {_literal(value)}" + " -%}"
        for name, value in arguments.items()
        if _uses(template, name)
    ]
    return "".join(lines) + template


def _uses(template: Any, name: str) -> bool:
    texts = template.values() if isinstance(template, dict) else [template]
    return any(re.search(rf"\b{re.escape(name)}\b", text) for text in texts)


def _literal(value: Any) -> str:
    """A value of a recipe as Jinja writes it."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)
