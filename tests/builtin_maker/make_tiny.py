r"""Make the tiny world that ships in the package: data sets, tokenizer and the tiny base model.

Run it from a checkout with the package installed; nothing is downloaded:

    python tests/builtin_maker/make_tiny.py data       # tasks.jsonl, labelled.jsonl
    python tests/builtin_maker/make_tiny.py tokenizer
    python tests/builtin_maker/make_tiny.py pretrain   # about 45 minutes on 2 cores

The files go to `seccoderx_lite/data/builtin/tiny/`. `pretrain` trains a Qwen2-shaped model from
scratch on rendered templates: programs asked for in a prompt (a share of them secure, the rest
insecure, as on the internet), one-line reviews of programs, and ratings (weak or sound), as if it
had read about the weaknesses. Pretraining sees every template, but no prompt of an evaluation
split.

The base that ships had 2,600 steps without ratings, 800 with a review share of 0.35, and then

    python tests/builtin_maker/make_tiny.py pretrain --seed 11 \
        --continue-from seccoderx_lite/data/builtin/tiny/model --steps 1100 --learning-rate 1.5e-3
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from seccoderx_lite.core import cwe
from seccoderx_lite.data.builtin import world
from seccoderx_lite.data.builtin.world import (
    Form,
    Program,
    Surface,
    Template,
    load_templates,
    sample_surface,
)
from seccoderx_lite.judge.prompt import render_judge_prompt
from seccoderx_lite.judge.verdict import VerdictForm

TINY = Path(world.__file__).parent / "tiny"

SECURE_SHARE = 0.42
"""Share of secure programs in pretraining; it sets how often the base is secure when sampled."""

FOREIGN_NAME_SHARE = 0.3
"""Share of pretraining prompts whose function name comes from another template: teaches copying."""

REVIEW_SHARE = 0.5
"""Share of pretraining pairs that ask for a review or a rating of a program, not for a program."""

TASKS_PER_TEMPLATE = {"train": 12, "validation": 1, "held_out": 3, "transfer": 5, "benign": 3}
LABELLED_FORMS = {"train": 16, "validation": 1, "held_out": 2, "transfer": 3}

VOCABULARY = 2048
CONTEXT = 1024


def make_data() -> None:
    """Write tasks.jsonl and labelled.jsonl."""
    TINY.mkdir(exist_ok=True)
    tasks = list(make_tasks(random.Random(1)))
    _write_jsonl(TINY / "tasks.jsonl", tasks)
    labelled = list(make_labelled(random.Random(2)))
    _write_jsonl(TINY / "labelled.jsonl", labelled)
    print(f"{len(tasks)} tasks, {len(labelled)} pieces of labelled code")


def sample_distinct(
    template: Template, form: Form, count: int, rng: random.Random
) -> list[Surface]:
    """Return up to `count` surface forms with different prompts."""
    forms: dict[str, Surface] = {}
    for _ in range(count * 20):
        if len(forms) == count:
            break
        surface = sample_surface(template, form, rng)
        forms.setdefault(surface.prompt, surface)
    return list(forms.values())


def _task_forms(template: Template, rng: random.Random) -> Iterator[tuple[str, Surface]]:
    """Yield (split, surface form) of one template; prompts differ within the template."""
    benign = template.cwe is None
    if template.split == "transfer":
        plan: list[tuple[str, Form]] = [("benign" if benign else "transfer", "any")]
    else:
        plan = [("train", "train"), ("benign" if benign else "held_out", "held_out")]
    for split, form in plan:
        count = TASKS_PER_TEMPLATE[split]
        extra = TASKS_PER_TEMPLATE["validation"] if split == "train" else 0
        forms = sample_distinct(template, form, count + extra, rng)
        yield from ((split, surface) for surface in forms[:count])
        yield from (("validation", surface) for surface in forms[count:])


def make_tasks(rng: random.Random) -> Iterator[dict[str, Any]]:
    for template in load_templates():
        for number, (split, surface) in enumerate(_task_forms(template, rng)):
            yield {
                "id": f"{template.cwe or 'benign'}/{template.name}/{number}",
                "prompt": surface.prompt,
                "language": "python",
                "cwe": [template.cwe] if template.cwe else [],
                "reference": surface.fill(template.secure[0].code).strip(),
                "tests": {"kind": "calls", "source": surface.fill(template.tests)},
                "split": split,
                "template": template.name,
                "insecure": surface.fill(template.insecure[0].code).strip()
                if template.insecure
                else None,
            }


def make_labelled(rng: random.Random) -> Iterator[dict[str, Any]]:
    for template in load_templates():
        if template.cwe is None:
            continue
        if template.split == "transfer":
            plan: list[tuple[str, Form]] = [("transfer", "any")]
        else:
            plan = [("train", "train"), ("validation", "train"), ("held_out", "held_out")]
        for split, form in plan:
            surfaces = sample_distinct(template, form, LABELLED_FORMS[split], rng)
            for number, surface in enumerate(surfaces):
                for program in template.programs:
                    yield {
                        "code": surface.fill(program.code).strip(),
                        "language": "python",
                        "cwe": [template.cwe],
                        "is_vulnerable": not program.is_secure,
                        "pair": f"{template.cwe}/{template.name}/{split}-{number}",
                        "reasoning": surface.fill(program.why),
                        "split": split,
                        "template": template.name,
                    }


def _write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


# --- the pretraining corpus ------------------------------------------------------------------

RATING_PROMPTS = (
    "Rate this Python code, weak or sound.\n{code}\n{cwe}",
    "{cwe}\nIs this Python code weak or sound?\n{code}",
)

REVIEW_PROMPTS = (
    "Review this Python code.\n{code}\n{cwe}",
    "{cwe}\nWhat does this Python code do about it?\n{code}",
    "What stands out in this code?\n{code}\nThink of {cwe}",
)


def fenced(code: str) -> str:
    """Return code as the completion the base model is taught to give."""
    return f"```python\n{code.strip()}\n```"


class Corpus:
    """An endless, seeded stream of (prompt, completion) pairs."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._templates = load_templates()
        self._names = sorted({name for t in self._templates for name in t.slots["fn"]})
        rows = (json.loads(line) for line in (TINY / "tasks.jsonl").open(encoding="utf-8"))
        self._reserved = {row["prompt"] for row in rows if row["split"] != "train"}

    def pair(self) -> tuple[str, str]:
        """Return the next prompt and completion."""
        rng = self._rng
        template = rng.choice(self._templates)
        surface = self._surface(template)
        program = self._program(template)
        if template.cwe is None or rng.random() >= REVIEW_SHARE:
            return surface.prompt, fenced(surface.fill(program.code))
        return self._review(template, surface, program)

    def batches(self, size: int) -> Iterator[list[tuple[str, str]]]:
        """Yield batches of pairs of about equal length, so that little of a batch is padding."""
        while True:
            pairs = sorted((self.pair() for _ in range(size * 8)), key=lambda p: len(p[0] + p[1]))
            chunks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
            self._rng.shuffle(chunks)
            yield from chunks

    def _surface(self, template: Template) -> Surface:
        while True:
            pool = template
            if self._rng.random() < FOREIGN_NAME_SHARE:
                slots = {**template.slots, "fn": (self._rng.choice(self._names),)}
                pool = replace(template, slots=slots)
            surface = sample_surface(pool, "any", self._rng)
            if surface.prompt not in self._reserved:
                return surface

    def _program(self, template: Template) -> Program:
        secure = not template.insecure or self._rng.random() < SECURE_SHARE
        return self._rng.choice(template.secure if secure else template.insecure)

    def _review(self, template: Template, surface: Surface, program: Program) -> tuple[str, str]:
        """Return a request to review or rate a program: in the judge's words, or in others."""
        entry = cwe.get(template.cwe or "")
        code = surface.fill(program.code).strip()
        is_rating = self._rng.random() < 0.5
        rating = "sound" if program.is_secure else "weak"
        answer = rating if is_rating else surface.fill(program.why)
        if self._rng.random() < 0.5:
            facts = [(entry.id, entry.short_name, entry.description)]
            form: VerdictForm = "direct" if is_rating else "reason"
            return render_judge_prompt(code, "python", facts, form=form), answer
        text = f"{entry.id}: {entry.short_name}. {entry.description}"
        asked = self._rng.choice(RATING_PROMPTS if is_rating else REVIEW_PROMPTS)
        return asked.format(code=fenced(code), cwe=text), answer


# --- tokenizer -------------------------------------------------------------------------------

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer() -> None:
    """Train a byte-level BPE on the corpus and save it with a chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    corpus = Corpus(seed=0)
    texts = ["\n".join(corpus.pair()) for _ in range(20_000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 4,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tags = ["<think>", "</think>", "<answer>", "</answer>"]
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(TINY / "model")
    lengths = sorted(len(fast(text)["input_ids"]) for text in texts[:2000])
    print(
        f"{len(fast)} tokens; a text has {lengths[1000]} (median), {lengths[-1]} (longest) tokens"
    )


# --- pretraining -----------------------------------------------------------------------------

PROMPT_WEIGHT = 0.1
"""Weight of prompt tokens in the pretraining loss; completion tokens weigh 1."""


def learning_rate_factor(step: int, steps: int) -> float:
    """Return the learning rate's factor: short warm-up, flat, linear decay over the last 40%."""
    warmup, decay = 50, int(0.4 * steps)
    return min(1.0, (step + 1) / warmup, max(steps - step, 1) / decay)


def pretrain(
    steps: int,
    batch_size: int,
    seed: int,
    learning_rate: float,
    continue_from: Path | None,
    checkpoint: Path | None,
) -> None:
    """Train the tiny base, from scratch or from a model of its shape, and save it in bfloat16."""
    import torch
    from transformers import AutoTokenizer, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    tokenizer = AutoTokenizer.from_pretrained(TINY / "model")
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=704,
        tie_word_embeddings=True,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    if continue_from:
        model = Qwen2ForCausalLM.from_pretrained(continue_from, dtype=torch.float32)
    model.set_attn_implementation("eager")  # its backward pass is the fastest on a CPU
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = torch.optim.Muon(
        matrices, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    optimizers: list[torch.optim.Optimizer] = [muon, adamw]
    batches, start = Corpus(seed + 1).batches(batch_size), time.time()
    for step in range(steps):
        factor = learning_rate_factor(step, steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * factor
        batch = _batch(tokenizer, next(batches))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(batch["input_ids"]).logits
        loss = _weighted_loss(logits, batch["input_ids"], batch["weights"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step % 50 == 0 or math.isnan(loss.item()):
            print(f"step {step} loss {loss.item():.4f} {time.time() - start:.0f} s", flush=True)
        if checkpoint and step % 200 == 199:
            model.save_pretrained(checkpoint)
            tokenizer.save_pretrained(checkpoint)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True
    )
    model.bfloat16().save_pretrained(TINY / "model")


def _batch(tokenizer: Any, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return right-padded (B, T) token ids and loss weights; causal attention needs no mask."""
    import torch

    rows: list[list[int]] = []
    weights: list[list[float]] = []
    for prompt, completion in pairs:
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        head = tokenizer(chat)["input_ids"]
        tail = tokenizer(completion + "<|im_end|>")["input_ids"]
        rows.append(head + tail)
        weights.append([PROMPT_WEIGHT] * len(head) + [1.0] * len(tail))
    # Few different lengths: the CPU kernels keep a copy of themselves for every shape they meet.
    longest = -(-max(map(len, rows)) // 32) * 32
    pad = tokenizer.pad_token_id
    return {
        "input_ids": torch.tensor([row + [pad] * (longest - len(row)) for row in rows]),
        "weights": torch.tensor([w + [0.0] * (longest - len(w)) for w in weights]),
    }


def _weighted_loss(logits: Any, input_ids: Any, weights: Any) -> Any:
    import torch

    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), input_ids[:, 1:].flatten(), reduction="none"
    )
    flat = weights[:, 1:].flatten()
    return (losses * flat).sum() / flat.sum()


def main() -> None:
    """Parse the command line and run one of the makers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["data", "tokenizer", "pretrain"])
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--continue-from", type=Path, help="folder of the model to train further")
    parser.add_argument("--checkpoint", type=Path, help="folder for a copy every 200 steps")
    options = parser.parse_args()
    if options.part == "data":
        make_data()
    elif options.part == "tokenizer":
        make_tokenizer()
    else:
        pretrain(
            options.steps,
            options.batch_size,
            options.seed,
            options.learning_rate,
            options.continue_from,
            options.checkpoint,
        )


if __name__ == "__main__":
    main()
