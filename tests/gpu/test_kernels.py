"""4-bit kernels, role switches and decoding on a GPU, against references."""

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft import get_peft_model

from seccoderx_lite.models.adapter_switch import acting_as
from seccoderx_lite.models.adapters import (
    adapter_digest,
    adapter_parameters,
    attach_adapter,
    lora_config,
    save_random_adapter,
)
from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.decoding import (
    choose_decoding,
    decode,
    decode_in_graphs,
    generating,
)
from seccoderx_lite.models.generation import generate_texts
from seccoderx_lite.recipe.recipe import LoraRecipe, ModelRecipe
from seccoderx_lite.training.role_proofs import check_rollout_weights, sequence_logprobs

pytestmark = pytest.mark.gpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PROMPT, COMPLETION = list(range(10, 30)), list(range(40, 60))


@pytest.mark.parametrize("rows", [1, 7, 256], ids=["one token", "a few tokens", "a prompt"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_a_4_bit_layer_agrees_with_its_dequantised_weights_forward_and_backward(dtype, rows):
    torch.manual_seed(0)
    layer = Linear4bit(
        1024, 512, bias=False, quant_type="nf4", compute_dtype=dtype, compress_statistics=True
    )
    layer.support_avx512bf16_for_cpu = False
    layer = layer.to(DEVICE)
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(torch.float32)
    x = torch.randn(rows, 1024, device=DEVICE)
    upstream = torch.randn(rows, 512, device=DEVICE)
    ours, reference = x.to(dtype).requires_grad_(), x.to(dtype).float().requires_grad_()
    result, expected = layer(ours), reference @ weight.T
    result.backward(upstream.to(dtype))
    expected.backward(upstream.to(dtype).float())
    assert relative_error(result, expected) < 0.01
    assert relative_error(ours.grad, reference.grad) < 0.01


def relative_error(value, expected):
    return ((value.float() - expected).norm() / expected.norm()).item()


@pytest.fixture(params=["bfloat16", "float16"])
def dtype(request, monkeypatch):
    """Imitates a card without bfloat16, such as a T4, for float16; a CPU computes in float32."""
    has_bf16 = request.param == "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: has_bf16)
    return getattr(torch, request.param) if DEVICE == "cuda" else torch.float32


@pytest.fixture
def two_adapters(tmp_path, dtype):
    base = load_base(ModelRecipe(base="builtin:tiny"))
    assert base.model.dtype is dtype
    save_random_adapter(base, LoraRecipe(rank=4), tmp_path / "judge")
    base.model = get_peft_model(base.model, lora_config(LoraRecipe(rank=4)))
    for name, parameter in adapter_parameters(base.model, "trained").items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    attach_adapter(base, tmp_path / "judge", "judge")
    return base


def test_switching_roles_leaves_every_bit_of_what_each_says(two_adapters):
    base = two_adapters
    digests = [adapter_digest(base.model, role) for role in ("trained", "judge")]
    said: dict = {}
    for _ in range(3):
        for role in ("trained", "reference", "judge"):
            with acting_as(role, base.model, base.tokenizer) as model:
                logprobs = sequence_logprobs(model, PROMPT, COMPLETION)
            assert torch.equal(logprobs, said.setdefault(role, logprobs))
    assert not torch.equal(said["trained"], said["judge"])
    assert not torch.equal(said["trained"], said["reference"])
    assert [adapter_digest(base.model, role) for role in ("trained", "judge")] == digests


def test_the_proof_of_the_rollouts_accepts_the_policy(two_adapters):
    for parameter in adapter_parameters(two_adapters.model, "trained").values():
        parameter.data = parameter.data.float()
    digest = adapter_digest(two_adapters.model, "trained")
    check_rollout_weights(two_adapters.model, two_adapters.tokenizer, PROMPT)
    assert adapter_digest(two_adapters.model, "trained") == digest


TASKS = ["Write a Python function add(a, b).", "Write f(x).", "Write f(x)."]
TASKS += ["Write a Python function that returns the number of words in the recipe text."]


@pytest.mark.parametrize("way", [decode, decode_in_graphs])
@pytest.mark.parametrize(("precision", "least_equal"), [("float32", 1.0), ("16 bits", 0.5)])
def test_decoding_writes_the_greedy_text_of_transformers(precision, least_equal, way):
    """In 16 bits a row that leaves the batch may change the rounding, and so a close call."""
    base = load_base(ModelRecipe(base="builtin:tiny", quantization="none"))
    model = base.model.float() if precision == "float32" else base.model
    settings = {"max_new_tokens": 48, "temperature": 0.0, "batch_size": 8}
    texts = [
        generate_texts(model.eval(), base.tokenizer, TASKS, **settings, **options)
        for options in ({}, {"custom_generate": way, "use_cache": True})
    ]
    equal = [ours == theirs for theirs, ours in zip(*texts, strict=True)]
    assert any(texts[0])
    assert sum(equal) / len(equal) >= least_equal


@pytest.mark.gpu(only=True)
def test_a_step_is_recorded_as_a_graph_also_with_4_bits_and_an_adapter(caplog):
    base = load_base(ModelRecipe(base="builtin:tiny"))
    base.model = get_peft_model(base.model, lora_config(LoraRecipe(rank=4)))
    settings = {"max_new_tokens": 32, "temperature": 0.0, "batch_size": 8}
    options = {"custom_generate": decode_in_graphs, "use_cache": True}
    with caplog.at_level("WARNING"):
        generate_texts(base.model.eval(), base.tokenizer, TASKS, **settings, **options)
    assert "cannot be recorded as a graph" not in caplog.text


@pytest.mark.gpu(only=True)
def test_the_faster_way_to_decode_is_measured_once():
    base = load_base(ModelRecipe(base="builtin:tiny"))
    assert choose_decoding(base) in ("plain", "graph")
    with generating(base) as options:
        assert options["custom_generate"] in (decode, decode_in_graphs)
    assert base.decoding != "auto"
