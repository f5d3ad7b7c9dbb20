"""RANet on Cityscapes as the paper trains it (Section 4): 81.9 mIoU on the validation set.

ResNet-101 at output stride 8, crops of 769 x 769, batches of 8, 40,000 steps, learning rate 0.001
decayed linearly; 2,975 training and 500 validation images of 1024 x 2048, 19 categories. The
paper uses eight GPUs with 12 GB and starts from ImageNet weights. This recipe has not been run.

    ranet port resnet101.pth --model resnet101 --output weights/resnet101
    ranet train --config configs/ranet_resnet101_cityscapes_769_40k.py --workdir runs/cityscapes
    ranet evaluate runs/cityscapes
    ranet evaluate runs/cityscapes --config.eval.flip=True \\
        --config.eval.scales="(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)"
"""

from ml_collections import ConfigDict

from ranet_configs._common import paper_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = paper_experiment("cityscapes", crop=769, steps=40_000)
    config.model.backbone = "resnet101"
    config.model.init_from = "weights/resnet101"
    return config
