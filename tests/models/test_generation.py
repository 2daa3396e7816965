"""Generation on the loaded base."""

from seccoderx_lite.models.base import load_base
from seccoderx_lite.models.generation import generate_texts


def test_what_the_models_generation_config_adds_to_sampling_is_left_out(model_recipe):
    base = load_base(model_recipe)

    def text():
        return generate_texts(
            base.model,
            base.tokenizer,
            ["Write a Python function that adds two numbers."],
            max_new_tokens=24,
            temperature=0.0,
            batch_size=1,
        )

    plain = text()
    base.model.generation_config.repetition_penalty = 5.0
    assert text() == plain
