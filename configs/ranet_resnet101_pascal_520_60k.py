"""RANet on PASCAL Context as the paper trains it (Section 4): 54.9 mIoU, multi-scale and flipped.

ResNet-101 at output stride 8, crops of 520 x 520, batches of 8, 60,000 steps, learning rate 0.001
decayed linearly; 4,998 training and 5,105 test images, 59 categories. The paper uses
eight GPUs with 12 GB and starts from ImageNet weights.

    ranet port resnet101.pth --model resnet101 --output weights/resnet101
    ranet train --config configs/ranet_resnet101_pascal_520_60k.py --workdir runs/pascal
    ranet evaluate runs/pascal --config.eval.flip=True \\
        --config.eval.scales="(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)"
"""

from ml_collections import ConfigDict

from ranet_configs._common import paper_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = paper_experiment("pascal_context", crop=520, steps=60_000)
    config.model.backbone = "resnet101"
    config.model.init_from = "weights/resnet101"
    return config
