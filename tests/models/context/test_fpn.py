"""The head on a feature pyramid against that of segmentation_models.pytorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import random_variables
from helpers.segmentation_models import decode, package
from ranet_jax.models.context.fpn import ConvGN, FPNContext
from ranet_jax.porting.networks.segmentation_models import FPN

pytestmark = pytest.mark.slow

WIDTHS = {"layer1": 5, "layer2": 4, "layer3": 3, "layer4": 6}


def random_stages(sizes):
    rng = np.random.default_rng(0)
    return {
        name: jnp.asarray(rng.normal(size=(2, *size, width)), jnp.float32)
        for (name, width), size in zip(WIDTHS.items(), sizes, strict=True)
    }


def test_it_equals_the_package_s():
    stages = random_stages(((16, 24), (8, 12), (4, 6), (2, 3)))
    module = FPNContext(tuple(stages), channels=64)
    variables = random_variables(module, stages)
    output = jax.jit(module.apply)(variables, stages)
    assert output.features.shape == (2, 16, 24, 64)

    decoder = package.decoders.fpn.decoder.FPNDecoder(
        (3, 2, *WIDTHS.values()), pyramid_channels=128, segmentation_channels=64
    )
    expected = decode(decoder, FPN.entries, variables, list(stages.values()))
    np.testing.assert_allclose(output.features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "sizes", [((13, 17), (7, 9), (4, 5), (2, 3)), ((5, 6), (5, 6), (5, 6), (5, 6))]
)
def test_other_sizes_than_the_package_takes(sizes):
    """Odd sizes, and dilated stages."""
    stages = random_stages(sizes)
    module = FPNContext(tuple(stages), channels=32)

    def run(stages):
        return module.init_with_output(jax.random.key(0), stages)[0].features

    assert jax.eval_shape(run, stages).shape == (2, *sizes[0], 32)


@pytest.mark.parametrize(("channels", "groups"), [(48, 16), (5, 1)])
def test_groups_divide_the_channels(channels, groups):
    """Each group of channels has mean 0 and deviation 1 over its pixels, before ReLU."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 9, 3)), jnp.float32)
    module = ConvGN(channels)
    variables = module.init(jax.random.key(0), x)
    bias = jnp.full(channels, 100.0)  # ReLU leaves such values unchanged
    gn = variables["params"]["gn"] | {"bias": bias}
    outputs = module.apply({"params": variables["params"] | {"gn": gn}}, x) - 100
    grouped = np.asarray(outputs).reshape(81, groups, -1)
    np.testing.assert_allclose(grouped.mean(axis=(0, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(grouped.std(axis=(0, 2)), 1, atol=1e-3)
    assert np.abs(grouped.mean(axis=0)).max() > 1e-2 or channels == groups
