"""U-Net on CamVid: ResNet-18 up to its third stage, ImageNet weights, a decoder to full size.

The RANet of `ranet_resnet18_camvid_2k.py` computes scores at an eighth of the images' size, and
most of what it misses is only a few pixels wide. This network computes scores at full size and is
trained in fewer steps at a higher rate.

    ranet prepare camvid --source DIR
    ranet port resnet18.pth --model resnet18 --output weights/resnet18
    ranet train --config configs/unet_resnet18_camvid_1500.py --workdir runs/camvid_unet
    ranet evaluate runs/camvid_unet --split test
"""

from ml_collections import ConfigDict

from ranet_configs.ranet_resnet18_camvid_2k import get_config as ranet_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = ranet_experiment()
    config.data.hue = 0.05
    config.data.blur = 1.0

    config.model.context = "unet"
    config.model.output_stride = 16

    config.optimizer.learning_rate = 0.05

    config.train.steps = 1500
    config.train.eval_every = 500
    return config
