"""RANet on CamVid at output stride 8: all of MobileNetV2, ImageNet weights.

It trains as `ranet_resnet18_camvid_2k.py` does, in colours that vary more, since the drives of
`test` were filmed in other light than those of `train`.

    ranet prepare camvid --source DIR
    ranet port mobilenet_v2.pth --model mobilenetv2 --output weights/mobilenetv2
    ranet train --config configs/ranet_mobilenetv2_camvid_2k.py --workdir runs/camvid_mobilenetv2
    ranet evaluate runs/camvid_mobilenetv2 --split test
"""

from ml_collections import ConfigDict

from ranet_configs._common import vary_colors
from ranet_configs.ranet_resnet18_camvid_2k import get_config as with_resnet18


def get_config() -> ConfigDict:
    """The experiment."""
    config = with_resnet18()
    vary_colors(config)

    config.model.init_from = "weights/mobilenetv2"
    config.model.backbone = "mobilenetv2"
    config.model.stages = 4

    config.optimizer.lr_multipliers = (("backbone", 0.3),)
    return config
