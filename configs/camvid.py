"""RANet on CamVid: ResNet-101 at output stride 8, for one GPU.

367 training, 101 validation and 233 test images of 360 x 480, 11 categories. It starts from random
weights; the paper's own recipes start from ImageNet weights. It has not been run yet.

    ranet prepare camvid --source DIR
    ranet train --config configs/camvid.py --workdir runs/camvid_r101
    ranet evaluate runs/camvid_r101 --split test
"""

from ml_collections import ConfigDict

from ranet_jax.config import default_config


def get_config() -> ConfigDict:
    """The experiment."""
    config = default_config()
    config.data.name = "camvid"
    config.data.crop_size = (360, 480)
    config.data.brightness = 0.1

    config.model.backbone = "resnet101"
    config.model.dtype = "bfloat16"

    config.optimizer.learning_rate = 0.02
    config.optimizer.power = 0.9
    config.optimizer.warmup_steps = 500

    config.train.steps = 20_000
    config.train.batch_size = 16
    return config
