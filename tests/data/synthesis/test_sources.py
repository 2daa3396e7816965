"""A local model as the generator of `synth`."""

from seccoderx_lite.data.synthesis.replies import Refused, Reply
from seccoderx_lite.data.synthesis.sources import LocalModel
from seccoderx_lite.models.base import load_base
from seccoderx_lite.recipe.synth import GeneratorRecipe


def test_a_prompt_beyond_the_context_of_a_local_model_is_refused_alone(model_recipe):
    settings = GeneratorRecipe(model="builtin:tiny", max_new_tokens=8)
    replies = {}
    source = LocalModel(load_base(model_recipe), settings, seed=0)
    source.ask_all(["Write f.", "Write f. " * 600], replies.__setitem__)
    assert isinstance(replies[0], Reply)
    assert isinstance(replies[1], Refused)
    assert "leaves the model no room for a reply of 8 tokens" in replies[1].reason
