"""Load the judge that a name on the command line refers to.

A name is one of

    bandit, semgrep        a static analyser, see `analysers`
    http://host/v1#MODEL   an OpenAI-compatible server, and the model's name there
    runs/tiny              a run folder: its base and its trained judge
    judge/adapter          a folder with a PEFT adapter; the base is that of its run, else the one
                           named in adapter_config.json
    anything else          a base model (hub id, folder, `builtin:tiny`), with or without an adapter
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from seccoderx_lite.core.errors import ModelError, RecipeError
from seccoderx_lite.core.records import Json, Verdict
from seccoderx_lite.judge.analysers import ANALYSERS, Analyser
from seccoderx_lite.judge.judge import CodeToJudge, Judge, judge_prompt, reasoned_verdict
from seccoderx_lite.judge.unsure_band import SETTINGS_FILE, unsure_band
from seccoderx_lite.models.adapter_files import CONFIG_FILE, read_adapter_config
from seccoderx_lite.models.generation import Generator, render_chat, token_ids
from seccoderx_lite.models.server_context import ServerContext
from seccoderx_lite.recipe.reading import faults_of, invalid
from seccoderx_lite.recipe.recipe import JudgeRecipe, ModelRecipe
from seccoderx_lite.run import files as folder_files
from seccoderx_lite.run.folder import RunFolder

SAMPLING_TEMPERATURE = 0.8
"""For several answers per piece of code; a single answer is greedy."""


class GivesVerdicts(Protocol):
    """A judge, an analyser, or a fake of one."""

    def verdicts(self, items: Sequence[CodeToJudge]) -> list[Verdict]:
        """Return one verdict per item, in order."""
        ...


@dataclass(frozen=True)
class LoadedJudge:
    """A judge with its name and identity."""

    name: str
    identity: Mapping[str, Json]
    """Cache key: equal identities mean equal verdicts."""
    judge: GivesVerdicts
    recipe: JudgeRecipe | None
    """Settings it answers with; None for an analyser."""
    batch_size: int
    why_unreadable: Callable[[CodeToJudge], str | None] = lambda item: None
    """Returns why the judge cannot read all of a piece of code; None if it can."""
    canaries: str | list[str] | None = None
    """Labelled code, of its training if known, on which a local judge can be tried."""

    def verdicts(self, items: Sequence[CodeToJudge]) -> list[Verdict]:
        """Return one verdict per item; unclear, with the reason, for code it cannot read."""
        readable, unreadable = self._split(items)
        verdicts = iter(self.judge.verdicts(readable))
        return [unreadable.get(item) or next(verdicts) for item in items]

    def sampled_verdicts(self, items: Sequence[CodeToJudge], seed: int) -> list[Verdict]:
        """Return one verdict per item with sampled reasoning.

        Raises:
            RecipeError: this judge does not sample.
        """
        if not isinstance(self.judge, Judge) or self.recipe is None:
            raise RecipeError(f"--samples: {self.name} does not sample; remove --samples")
        if self.recipe.verdict != "reason":
            raise RecipeError(
                f"--samples: needs verdict mode reason, but {self.name} answers in mode "
                f"{self.recipe.verdict}; add --verdict reason, or remove --samples"
            )
        readable, unreadable = self._split(items)
        answers = iter(_sample(self.judge.generator, readable, self.recipe, seed))
        return [unreadable.get(item) or reasoned_verdict(next(answers)) for item in items]

    def _split(
        self, items: Sequence[CodeToJudge]
    ) -> tuple[list[CodeToJudge], dict[CodeToJudge, Verdict]]:
        unreadable = {
            item: Verdict("unclear", error=reason)
            for item in dict.fromkeys(items)
            if (reason := self.why_unreadable(item)) is not None
        }
        return [item for item in items if item not in unreadable], unreadable


def _sample(
    generator: Generator, items: Sequence[CodeToJudge], recipe: JudgeRecipe, seed: int
) -> list[str | None]:
    if recipe.endpoint is None:
        import torch

        torch.manual_seed(seed)
    prompts = [judge_prompt(item, recipe) for item in items]
    return generator.generate(
        prompts, max_new_tokens=recipe.max_new_tokens, temperature=SAMPLING_TEMPERATURE
    )


_MAX_BATCH_COST = 64 * 800**2
"""Limit of items * (characters of the longest)^2 in one batch, because attention is quadratic."""


def in_batches(items: Sequence[CodeToJudge], size: int) -> Iterator[list[int]]:
    """Yield batches of item indices, longest code first; batches of long code are smaller.

    >>> items = [CodeToJudge("x" * length, "c", ()) for length in (10, 30, 20)]
    >>> list(in_batches(items, 2))
    [[1, 2], [0]]
    """
    order = sorted(range(len(items)), key=lambda place: len(items[place].code), reverse=True)
    start = 0
    while start < len(order):
        longest = max(1, len(items[order[start]].code))
        count = max(1, min(size, _MAX_BATCH_COST // longest**2))
        yield order[start : start + count]
        start += count


def load_judge(
    name: str,
    *,
    adapter: Path | str | None = None,
    settings: Mapping[str, Json] | None = None,
) -> LoadedJudge:
    """Return the judge that a name refers to, with its model loaded.

    Args:
        name: See the top of this file.
        adapter: Judge adapter on top of a base model.
        settings: Fields of `JudgeRecipe` that override those the judge was trained with.

    Raises:
        RecipeError: an option does not apply to this kind of judge.
        ModelError: the model or the adapter cannot be loaded.
        JudgeError: an analyser is not installed.
    """
    given = {key: value for key, value in (settings or {}).items() if value is not None}
    is_server = name.startswith(("http://", "https://"))
    if not is_server:
        given.pop("api_key_env", None)
    if adapter is not None and (is_server or name in ANALYSERS):
        raise RecipeError(f"--adapter: does not apply to {name}; remove it")
    if name in ANALYSERS:
        analyser = Analyser(name)
        return LoadedJudge(name, analyser.identity, analyser, None, analyser.batch_size)
    if is_server:
        return _endpoint_judge(name, given)
    if adapter is None and (Path(name) / "adapter_config.json").is_file():
        return _adapter_judge(Path(name), given)
    if (Path(name) / "recipe.yaml").is_file():
        return _run_judge(Path(name), Path(adapter) if adapter else None, given)
    return _local_judge(ModelRecipe(base=name), Path(adapter) if adapter else None, {}, given)


def _endpoint_judge(name: str, given: Mapping[str, Json]) -> LoadedJudge:
    url, _, model = name.partition("#")
    if not model:
        raise RecipeError(f"{name}: add the name of the model on this server: {url}#MODEL")
    settings = dict(given)
    named = {"url": url, "model": model, "api_key_env": settings.pop("api_key_env", None)}
    endpoint = {**named, **settings.pop("endpoint", {})}
    recipe = _recipe({"endpoint": endpoint, **settings})
    identity = {"endpoint": url, "model": model, **_answering(recipe)}
    if recipe.endpoint and recipe.endpoint.request:
        identity["request"] = recipe.endpoint.request
    judge, check = Judge.at_endpoint(recipe), _server_context_check(recipe)
    return LoadedJudge(name, identity, judge, recipe, recipe.batch_size, check)


def _server_context_check(recipe: JudgeRecipe) -> Callable[[CodeToJudge], str | None]:
    """`LoadedJudge.why_unreadable` for a served model whose server says its context."""
    assert recipe.endpoint is not None
    context = ServerContext(recipe.endpoint)

    def why_unreadable(item: CodeToJudge) -> str | None:
        long = context.too_long(judge_prompt(item, recipe), recipe.max_new_tokens)
        return _too_long(*long) if long else None

    return why_unreadable


def _too_long(tokens: int, limit: int) -> str:
    return f"too long for the judge: {tokens} tokens, its limit is {limit}"


def _run_judge(run: Path, adapter: Path | None, given: Mapping[str, Json]) -> LoadedJudge:
    folder = RunFolder.existing(run)
    recipe = folder.recipe
    trained = recipe.judge.model_dump() if recipe.judge else {}
    if trained.get("endpoint"):
        raise RecipeError(
            f"{run}: the judge of this run is a server; give its address instead: URL#MODEL"
        )
    chosen = adapter or Path(trained.get("adapter") or folder.judge_adapter)
    has_adapter = (chosen / "adapter_config.json").is_file()
    if not has_adapter and not trained.get("base"):
        raise ModelError(
            f"{run}: there is no trained judge in this run folder ({chosen}); train one, or give "
            "--adapter"
        )
    model = recipe.model.model_copy(update={"base": trained.get("base") or recipe.model.base})
    kept = {key: trained[key] for key in _ANSWERING if trained.get(key) is not None}
    judge = _local_judge(model, chosen if has_adapter else None, kept, given, name=str(run))
    return replace(judge, canaries=_labelled_code(recipe.judge) or judge.canaries)


def _labelled_code(judge: JudgeRecipe | None) -> str | list[str] | None:
    """Return the labelled code that a run's judge is tried or trained on."""
    if judge is None:
        return None
    section = judge.align or judge.cold_start
    return judge.canaries.data or (section.data if section else None)


def _adapter_judge(folder: Path, given: Mapping[str, Json]) -> LoadedJudge:
    for parent in folder.resolve().parents[:3]:
        if (parent / "recipe.yaml").is_file():
            return _run_judge(parent, folder, given)
    base = read_adapter_config(folder, "judge").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"judge: {folder / CONFIG_FILE} does not name the base of the adapter; give the base "
            f"as the model and --adapter {folder}"
        )
    return _local_judge(ModelRecipe(base=base), folder, {}, given, name=str(folder))


_ANSWERING = tuple(
    field
    for field in JudgeRecipe.model_fields
    if field not in ("adapter", "base", "endpoint", "cold_start", "align", "canaries", "cache")
)
"""Fields of the recipe that change how a judge answers."""


def _answering(recipe: JudgeRecipe) -> dict[str, Json]:
    data = recipe.model_dump(mode="json")
    return {field: data[field] for field in _ANSWERING if field != "batch_size"}


def trained_with(adapter: Path) -> dict[str, Json]:
    """The recipe fields that training saved in judge.json in the adapter's folder.

    Without `unsure`: a calibrated band can be empty, which a recipe does not allow; `unsure_band`
    reads it.
    """
    file = adapter / SETTINGS_FILE
    data = folder_files.read_object(file) if file.is_file() else {}
    return {field: data[field] for field in _ANSWERING if field in data and field != "unsure"}


def _recipe(data: Mapping[str, Json]) -> JudgeRecipe:
    try:
        return JudgeRecipe.model_validate(data)
    except ValidationError as error:
        raise invalid("the judge", list(faults_of(error, JudgeRecipe))) from error


def _local_judge(
    model: ModelRecipe,
    adapter: Path | None,
    trained: Mapping[str, Json],
    given: Mapping[str, Json],
    name: str = "",
) -> LoadedJudge:
    from seccoderx_lite.models.adapters import attach_adapter
    from seccoderx_lite.models.base import load_base

    saved = trained_with(adapter) if adapter else {}
    origin = {"adapter": str(adapter)} if adapter else {"base": model.base}
    recipe = _recipe({**origin, **saved, **trained, **given})
    base = load_base(model)
    if adapter:
        attach_adapter(base, adapter, "judge")
    judge = Judge.on(base, recipe, "judge" if adapter else "reference", unsure_band(adapter))
    identity = {
        "base": Path(model.base).name if Path(model.base).is_dir() else model.base,
        "quantization": model.quantization,
        "adapter": _digest(adapter) if adapter else None,
        **_answering(recipe),
        "unsure": list(judge.unsure),
    }
    label = name or (f"{model.base} with {adapter}" if adapter else model.base)
    readable = _context_check(base, recipe)
    return LoadedJudge(label, identity, judge, recipe, recipe.batch_size, readable, "builtin:tiny")


def _digest(adapter: Path) -> str:
    """A digest of the adapter's weights, so that a retrained judge has another identity."""
    digest = hashlib.sha256()
    for file in sorted(adapter.glob("adapter_model.*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _context_check(base: Any, recipe: JudgeRecipe) -> Callable[[CodeToJudge], str | None]:
    """`LoadedJudge.why_unreadable` for a model: prompt and answer must fit into its context."""
    from seccoderx_lite.models.context import longest_prompt

    limit = longest_prompt(base.model, recipe.max_new_tokens)

    def why_unreadable(item: CodeToJudge) -> str | None:
        text = render_chat(base.tokenizer, judge_prompt(item, recipe))
        if limit is None or len(text.encode()) <= limit:  # a token has at least one byte
            return None
        tokens = len(token_ids(base.tokenizer, [text])[0])
        if tokens <= limit:
            return None
        return _too_long(tokens, limit)

    return why_unreadable
