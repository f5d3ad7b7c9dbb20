"""U-Net's decoder against that of segmentation_models.pytorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.numpy_layers import random_variables
from helpers.segmentation_models import decode, package
from helpers.training import DATASET, eval_batches, tiny_config, train_batches
from ranet_jax.inference.model import load
from ranet_jax.models.context.unet import UNetContext
from ranet_jax.porting.networks.segmentation_models import UNET
from ranet_jax.training.loop import train

WIDTHS = {"image": 3, "stem": 5, "layer1": 4, "layer2": 6}


@pytest.mark.parametrize(
    "sizes",
    [
        ((16, 24), (8, 12), (4, 6), (2, 3)),
        ((13, 18), (7, 9), (4, 5), (2, 3)),
        ((9, 10), (5, 5), (3, 3), (3, 3)),  # a dilated stage has the size of the one before it
    ],
)
def test_it_equals_the_package_s(sizes):
    rng = np.random.default_rng(0)
    stages = {
        name: jnp.asarray(rng.normal(size=(2, *size, width)), jnp.float32)
        for (name, width), size in zip(WIDTHS.items(), sizes, strict=True)
    }
    module = UNetContext(("stem", "layer1", "layer2"), channels=16)
    variables = random_variables(module, stages)
    output = jax.jit(module.apply)(variables, stages)
    assert output.features.shape == (2, *sizes[0], 4)

    decoder = package.decoders.unet.decoder.UnetDecoder(tuple(WIDTHS.values()), (16, 8, 4), 3)
    expected = decode(decoder, UNET.entries, variables, list(stages.values()))
    np.testing.assert_allclose(output.features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("context", ["unet", "fpn"])
def test_decoders_train_and_predict(context, tmp_path):
    """They are built from a config; their score maps are larger than the last stage's maps."""
    config = tiny_config(steps=2)
    config.model.update(context=context, channels=16, stages=3, dtype="bfloat16")
    with jax.numpy_dtype_promotion("standard"):  # Flax's norms promote
        train(config, tmp_path / "run", DATASET, train_batches, eval_batches)
        prediction = load(tmp_path / "run").predict(np.zeros((31, 46, 3), np.uint8))
    assert prediction.labels.shape == (31, 46)
    assert np.isfinite(prediction.probabilities).all()
