"""RANet on Cityscapes as in the authors' released code, which departs from their paper.

ResNet-101 with a deep stem, fourth stage dilated by 16, 32 and 64; images in BGR order minus the
mean, not divided by the deviation; the coarse scores come from the third stage. Crops, batches and
steps are the paper's. This config is for porting the authors' weights, or for comparing the two.

    ranet train --config configs/released_resnet101_cityscapes_769_40k.py --workdir runs/released
    ranet evaluate runs/released
"""

from ml_collections import ConfigDict

from ranet_configs._common import paper_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = paper_experiment("cityscapes", crop=769, steps=40_000)
    config.data.mean = (122.67891434, 116.66876762, 104.00698793)
    config.data.std = (1.0, 1.0, 1.0)
    config.data.channel_order = "bgr"

    config.model.variant = "released"
    config.model.backbone = "resnet101"
    config.model.stem = "deep"

    config.loss.boundary = 0.4 * 0.2
    config.loss.boundary_target = "pixels"
    return config
