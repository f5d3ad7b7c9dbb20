import pytest

from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.inference.settings import InferenceSettings


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "crops"},
        {"scales": ()},
        {"scales": (1.0, 0.0)},
        {"scales": (1.0, float("inf"))},
        {"crop_size": (0, 5)},
        {"stride_ratio": 0.0},
        {"stride_ratio": 1.5},
        {"window_batch": 0},
    ],
)
def test_impossible_settings_are_refused(fields):
    with pytest.raises(UserError, match=next(iter(fields))):
        InferenceSettings(**fields)


def test_settings_come_from_the_config():
    config = default_config()
    config.eval.mode = "slide"
    config.eval.scales = (0.5, 1.0)
    config.eval.crop_size = (65, 33)
    settings = InferenceSettings.from_config(config)
    assert (settings.mode, settings.scales, settings.crop_size) == ("slide", (0.5, 1.0), (65, 33))
    assert settings.stride_ratio == pytest.approx(2 / 3)
    assert not settings.single_pass
    assert InferenceSettings().single_pass
    assert settings.align_corners
    config.model.align_corners = False
    assert not InferenceSettings.from_config(config).align_corners


@pytest.mark.parametrize(
    "fields, seen",
    [
        ({}, 1024 * 2048),
        ({"output_stride": 16}, 2048 * 4096),
        ({"region_path": "dense"}, 320_000),
        ({"region_path": "dense", "output_stride": 16}, 1_280_000),
        ({"kernel_size": 3}, 320_000),
        ({"variant": "released"}, 320_000),
        ({"context": "nonlocal"}, 320_000),
        ({"context": "none"}, None),
        ({"context": "none", "region_path": "dense"}, None),
    ],
)
def test_whole_images_are_bounded_where_pixels_are_paired(fields, seen):
    """At stride 8, 128 x 256 feature pixels see 1024 x 2048, and 5,000 in tables see 320,000."""
    config = default_config()
    config.model.update(fields)
    config.data.crop_size = (128, 128)
    assert InferenceSettings.from_config(config).max_pixels == seen
    config.data.crop_size = (3000, 3000)  # training held as many
    crop = None if seen is None else 9_000_000
    assert InferenceSettings.from_config(config).max_pixels == crop
