"""The stage `tests`: tests by the generator, kept only if candidate solutions prove them."""

from seccoderx_lite.core.code_blocks import extract_code
from seccoderx_lite.core.records import Json
from seccoderx_lite.data.synthesis import proof
from seccoderx_lite.data.synthesis.context import StageFiles, Synthesis
from seccoderx_lite.data.synthesis.draws import draw_seed
from seccoderx_lite.data.synthesis.generator import ParsedReply
from seccoderx_lite.data.synthesis.prompts import AnyTests, tests_request
from seccoderx_lite.data.synthesis.references import complete
from seccoderx_lite.data.synthesis.stage_files import Line, count_passed, passed

_CHUNK = 32


def write_tests(synthesis: Synthesis, stage: StageFiles) -> dict[str, Json]:
    sandbox = synthesis.sandbox
    assert sandbox is not None

    def work(position: int, part: list[Line]) -> list[Line]:
        requests = [tests_request(task) for task in part]
        replies = synthesis.generator.ask_all(requests)
        sampled = _sample(synthesis, position, part)
        runs = []
        for task, reply, codes in zip(part, replies, sampled, strict=True):
            if answer := reply.answer:
                own = [answer.secure_solution, answer.insecure_solution]
                candidates = [task.get("reference") or "", *own, *codes]
                tests = answer.as_tests()
                runs.append(proof.submit(sandbox, tests, candidates, task["language"]))
            else:
                runs.append([])
        return [
            _with_tests(task, reply, proof.prove(started))
            for task, reply, started in zip(part, replies, runs, strict=True)
        ]

    total = count_passed(synthesis.folder, stage.source)
    tasks = passed(synthesis.folder, stage.source)
    summary = synthesis.process(stage, tasks, total, work, _CHUNK)
    proved = sum("tests" in line for line in synthesis.folder.read_jsonl(stage.target))
    return {**summary, "proved": proved}


def _sample(synthesis: Synthesis, position: int, part: list[Line]) -> list[list[str]]:
    """Sample code of the policy base for each task; the draws depend on the chunk alone."""
    recipe = synthesis.recipe
    if recipe.tests is None or not recipe.tests.candidates or recipe.model is None:
        return [[] for _ in part]
    import torch

    torch.manual_seed(draw_seed(recipe.seed, "candidates", position))
    count = recipe.tests.candidates
    prompts = [task["prompt"] for task in part for _ in range(count)]
    texts = complete(synthesis, prompts, recipe.tests.temperature)
    languages = [task["language"] for task in part for _ in range(count)]
    codes = [extract_code(*pair) or "" for pair in zip(texts, languages, strict=True)]
    return [codes[n * count : (n + 1) * count] for n in range(len(part))]


def _with_tests(task: Line, reply: ParsedReply[AnyTests], result: proof.Proof) -> Line:
    if reply.answer is None:
        return {**task, "tests_left_out": reply.reason, "detail": reply.detail}
    if result.fault:
        reason, _, detail = result.fault.partition(": ")
        return {**task, "tests_left_out": reason, "detail": detail}
    counts = {"candidates_passed": result.passed, "candidates_refuted": result.refuted}
    return {**task, "tests": reply.answer.as_tests(), **counts}
