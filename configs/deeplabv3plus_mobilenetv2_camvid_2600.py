"""DeepLabV3+ on CamVid: MobileNetV2 at output stride 16, ImageNet weights, for scores on `test`.

It trains on `train` and `val` together, so its scores on `val` say nothing. Colours vary strongly,
since the drives of `test` were filmed in other light than those of `train`.

    ranet prepare camvid --source DIR
    ranet port mobilenet_v2.pth --model mobilenetv2 --output weights/mobilenetv2
    ranet train --config configs/deeplabv3plus_mobilenetv2_camvid_2600.py --workdir runs/deeplab
    ranet evaluate runs/deeplab --split test
"""

from ml_collections import ConfigDict

from ranet_configs._common import vary_colors
from ranet_configs.ranet_resnet18_camvid_2k import get_config as with_regions


def get_config() -> ConfigDict:
    """The experiment."""
    config = with_regions()
    config.data.train_split = "train+val"
    vary_colors(config)

    config.model.init_from = "weights/mobilenetv2"
    config.model.backbone = "mobilenetv2"
    config.model.stages = 4
    config.model.output_stride = 16
    config.model.context = "deeplabv3plus"
    config.model.aspp_rates = (6, 12, 18)

    config.optimizer.lr_multipliers = (("backbone", 0.3),)

    config.train.steps = 2600
    config.train.eval_every = 2600
    return config
