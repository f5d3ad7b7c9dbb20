"""RANet on COCO-Stuff 10k as the paper trains it (Section 4): 40.7 mIoU, multi-scale and flipped.

ResNet-101 at output stride 8, crops of 520 x 520, batches of 8, 60,000 steps, learning rate 0.001
decayed linearly; 9,000 training and 1,000 validation images, 171 categories. The paper uses
eight GPUs with 12 GB and starts from ImageNet weights.

    ranet port resnet101.pth --model resnet101 --output weights/resnet101
    ranet train --config configs/ranet_resnet101_coco_stuff_520_60k.py --workdir runs/coco_stuff
    ranet evaluate runs/coco_stuff --config.eval.flip=True \\
        --config.eval.scales="(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)"
"""

from ml_collections import ConfigDict

from ranet_configs._common import paper_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = paper_experiment("coco_stuff", crop=520, steps=60_000)
    config.model.backbone = "resnet101"
    config.model.init_from = "weights/resnet101"
    return config
