"""RANet on Cityscapes with the backbone of the paper's Table 5, HRNetV2-W48 + ASPP.

The concatenated features have stride 4, 193 x 193 of them for a crop of 769 x 769, with sixteen
times as many pairs of pixels as at stride 8. The paper reports 83.4 mIoU on the test set (84.0 with
coarse annotations) and gives no schedule for this backbone; the one here is that of ResNet-101. It
has not been run.

    ranet port hrnetv2_w48_imagenet.pth --model hrnetv2_w48 --output weights/hrnetv2_w48
    ranet train --config configs/ranet_hrnetv2_w48_aspp_cityscapes_769_40k.py --workdir runs/hrnet
    ranet evaluate runs/hrnet
"""

from ml_collections import ConfigDict

from ranet_configs._common import paper_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = paper_experiment("cityscapes", crop=769, steps=40_000)
    config.model.backbone = "hrnetv2_w48"
    config.model.init_from = "weights/hrnetv2_w48"
    config.model.output_stride = 4
    config.model.aspp_rates = (12, 24, 36)
    return config
