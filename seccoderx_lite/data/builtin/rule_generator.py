"""A generator of tasks without a language model: it fills in the templates of the package.

For tests and for `recipes/synth-tiny.yaml`. It reads the same prompts as a model and replies in the
same JSON, but it knows only those templates: other code, and other tasks, get an empty object. Its
scenarios are two sentences from a list. A task is a surface form of the seed's template, drawn by a
hash of the prompt, in words that the tiny base was pretrained on; it does not use the scenario.
"""

import hashlib
import json
import random
import re
from collections.abc import Mapping
from functools import cache, lru_cache

from seccoderx_lite.data.builtin.world import Surface, Template, load_templates, sample_surface

TRADES = re.split(
    r",\s+",
    """bakery, bicycle shop, book club, camp site, car wash, choir, clinic, farm, ferry line,
    film club, garden centre, gym, harbour, hostel, kindergarten, laundry, library, museum,
    music school, nursery, orchard, pet shop, pharmacy, post office, print shop, recycling yard,
    repair cafe, riding school, school, ski lift, sports club, stationer, swimming pool, theatre,
    toy shop, travel agency, vineyard, warehouse, workshop, youth centre""",
)
USERS = ("clerks", "volunteers", "members", "guests", "drivers", "teachers", "apprentices")

_SLOT = re.compile(r"\$(?:\$|\{(?P<braced>\w+)\}|(?P<named>\w+))")


def answer(prompt: str) -> str:
    """Return the reply to one prompt of `synthesis.prompts`, as JSON text."""
    draw = random.Random(hashlib.sha256(prompt.encode()).digest())
    title = prompt.split("\n", 1)[0]
    if title == "# Application settings":
        return json.dumps(_scenarios(prompt, draw))
    if title == "# Coding task":
        return json.dumps(_task(prompt, draw))
    if title == "# Quality of a task":
        return json.dumps({"mark": 5 if _recognised_task(prompt) else 1, "reason": "By rule."})
    return json.dumps(_tests(prompt))


def _scenarios(prompt: str, draw: random.Random) -> Mapping[str, object]:
    count = re.search(r"^Think of (\d+) distinct", prompt, re.MULTILINE)
    trades = draw.sample(TRADES, min(int(count[1]) if count else 1, len(TRADES)))
    texts = [
        f"The small back office of a {trade}, used by its {draw.choice(USERS)} every day. "
        f"A module there does a job like the one shown, for the records of the {trade}."
        for trade in trades
    ]
    return {"scenarios": [{"scenario": text} for text in texts]}


def _task(prompt: str, draw: random.Random) -> Mapping[str, object]:
    code = re.search(r"^```\w+\n(.*?)\n```$", prompt, re.DOTALL | re.MULTILINE)
    template = _template_of_code(code[1]) if code else None
    if template is None:
        return {}
    surface = sample_surface(template, "any", draw)
    return {
        "design_plan": f"Another surface form of the template {template.name}.",
        "coding_task_prompt": surface.prompt,
        "implementation_language": "python",
    }


def _tests(prompt: str) -> Mapping[str, object]:
    found = _recognised_task(prompt)
    if found is None or not found[0].insecure:
        return {}
    template, surface = found
    return {
        "tests": surface.fill(template.tests),
        "secure_solution": surface.fill(template.secure[0].code),
        "insecure_solution": surface.fill(template.insecure[0].code),
    }


def _recognised_task(prompt: str) -> tuple[Template, Surface] | None:
    """Return the template and surface form whose prompt is a paragraph of this prompt."""
    for paragraph in prompt.split("\n\n"):
        for template, pattern in _prompt_patterns():
            if match := pattern.fullmatch(paragraph):
                return template, Surface(paragraph, match.groupdict())
    return None


@lru_cache(maxsize=1024)
def _template_of_code(code: str) -> Template | None:
    found = (template for template, pattern in _code_patterns() if pattern.fullmatch(code.strip()))
    return next(found, None)


@cache
def _code_patterns() -> tuple[tuple[Template, re.Pattern[str]], ...]:
    return tuple(
        (template, _pattern(program.code.strip(), template))
        for template in load_templates()
        for program in template.programs
    )


@cache
def _prompt_patterns() -> tuple[tuple[Template, re.Pattern[str]], ...]:
    return tuple(
        (template, _pattern(prompt, template))
        for template in load_templates()
        for prompt in template.prompts
    )


def _pattern(text: str, template: Template) -> re.Pattern[str]:
    """Return a pattern that matches all surface forms of a text, with its slots as named groups."""
    pattern, end, seen = "", 0, set()
    for slot in _SLOT.finditer(text):
        pattern += re.escape(text[end : slot.start()])
        end = slot.end()
        name = slot["named"] or slot["braced"]
        if name is None:
            pattern += re.escape("$")
        elif name in seen:
            pattern += f"(?P={name})"
        else:
            seen.add(name)
            choices = sorted(template.slots[name], key=len, reverse=True)
            pattern += f"(?P<{name}>{'|'.join(map(re.escape, choices))})"
    return re.compile(pattern + re.escape(text[end:]))
