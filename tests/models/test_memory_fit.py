"""What fits into memory, and the smallest change where something does not."""

import pytest

from seccoderx_lite.models.estimate import estimate
from seccoderx_lite.models.gpus import GIB, GPUS, least_seconds
from seccoderx_lite.models.memory_fit import fit_message, memory_fit, smallest_change
from seccoderx_lite.models.shapes import Linear, ModelShape, Shapes
from seccoderx_lite.recipe.reading import with_value
from seccoderx_lite.recipe.recipe import check_recipe

LAYERS = 28
SHAPE = ModelShape(
    parameters=1_543_714_304,
    layers=LAYERS,
    hidden=1536,
    intermediate=8960,
    heads=12,
    query=1536,
    key=256,
    vocabulary=151936,
    max_tokens=32768,
    linears=tuple(
        Linear(f"layers.{n}.{name}", inputs, outputs)
        for n in range(LAYERS)
        for name, inputs, outputs in (
            ("q", 1536, 1536),
            ("k", 1536, 256),
            ("v", 1536, 256),
            ("o", 1536, 1536),
            ("gate", 1536, 8960),
            ("up", 1536, 8960),
            ("down", 8960, 1536),
        )
    ),
)
SHAPES = Shapes(SHAPE, None)
LOSS_TILES = {"1.14.2": 4, "1.16.0": 8}
"""Installed TRL, and the largest micro-batch of `recipe()` that fits into 12 GiB with it."""


@pytest.fixture(params=LOSS_TILES)
def micro_batch(request, monkeypatch):
    monkeypatch.setattr("seccoderx_lite.models.estimate.version", lambda name: request.param)
    return LOSS_TILES[request.param]


def recipe(**grpo):
    settings = {"group_size": 8, "prompts_per_step": 4, "max_completion_tokens": 1024, **grpo}
    return check_recipe(
        {
            "name": "x",
            "model": {"base": "b"},
            "policy": {"tasks": "t", "reward": {"judge": False}, "grpo": settings},
        },
        "x",
    )


def changed(original, changes):
    document = original.model_dump()
    for key, value in changes:
        document = with_value(document, key.split("."), value)
    return check_recipe(document, "x")


def test_the_mildest_change_that_costs_only_time_comes_first(micro_batch):
    whole_step = recipe()
    assert smallest_change(whole_step, SHAPES, 12 * GIB) == [
        ("policy.grpo.trainer.per_device_train_batch_size", micro_batch)
    ]


@pytest.mark.parametrize("gigabytes", [4, 5, 6, 8, 12, 20])
def test_the_changed_recipe_fits_and_no_part_of_the_change_is_idle(gigabytes):
    original, memory = recipe(), gigabytes * GIB
    changes = smallest_change(original, SHAPES, memory)
    assert estimate(changed(original, changes), SHAPES).peak_bytes <= memory
    for change in changes:
        others = [other for other in changes if other != change]
        assert estimate(changed(original, others), SHAPES).peak_bytes > memory


def test_nothing_is_proposed_where_the_weights_alone_are_too_large():
    assert smallest_change(recipe(), SHAPES, GIB) is None
    fit = memory_fit(recipe(), SHAPES, GIB)
    assert not fit.fits
    assert "use a smaller base" in fit_message(fit)


def test_the_verdict_has_overrides_that_train_takes(micro_batch):
    fit = memory_fit(recipe(), SHAPES, 12 * GIB)
    assert not fit.fits
    override = f"-o policy.grpo.trainer.per_device_train_batch_size={micro_batch}"
    assert fit_message(fit).endswith(override)


def test_a_recipe_that_fits_needs_no_change():
    small = recipe(trainer={"per_device_train_batch_size": 1})
    assert memory_fit(small, SHAPES, 24 * GIB).fits


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("completions", {"max_completion_tokens": 2048}),
        ("group", {"group_size": 16}),
        ("no checkpointing", {"trainer": {"gradient_checkpointing": False}}),
    ],
)
def test_more_of_anything_takes_more_memory(name, settings):
    peak = estimate(recipe(**settings), SHAPES).peak_bytes
    assert peak > estimate(recipe(), SHAPES).peak_bytes


def test_least_time_is_work_over_the_gpus_rates():
    estimated = estimate(recipe(), SHAPES)
    seconds = estimated.work.flops / 65e12 + estimated.work.decode_bytes / 320e9
    assert least_seconds(estimated.work, GPUS["T4"]) == pytest.approx(seconds)
    assert least_seconds(estimated.work, GPUS["H100 80GB"]) < seconds
