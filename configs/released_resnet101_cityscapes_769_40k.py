"""RANet on Cityscapes as the authors' released code has it, which departs from their paper.

ResNet-101 with a deep stem, fourth stage dilated by 16, 32 and 64; images in BGR order less the
mean, not divided; the coarse scores come from the third stage. Crops, batches and steps are the
paper's. For those who carry the authors' weights over, or compare the two.

    ranet train --config configs/released_resnet101_cityscapes_769_40k.py --workdir runs/released
    ranet evaluate runs/released
"""

from ml_collections import ConfigDict

from ranet_jax.config import default_config


def get_config() -> ConfigDict:
    """The experiment."""
    config = default_config()
    config.data.name = "cityscapes"
    config.data.crop_size = (769, 769)
    config.data.brightness = 10 / 255
    config.data.mean = (122.67891434, 116.66876762, 104.00698793)
    config.data.std = (1.0, 1.0, 1.0)
    config.data.channel_order = "bgr"

    config.model.variant = "released"
    config.model.backbone = "resnet101"
    config.model.stem = "deep"
    config.model.dtype = "bfloat16"

    config.loss.boundary = 0.4 * 0.2
    config.loss.boundary_target = "pixels"

    config.optimizer.learning_rate = 0.001
    config.train.steps = 40_000
    config.train.batch_size = 8

    config.eval.mode = "slide"
    config.eval.crop_size = (769, 769)
    return config
