"""RANet on COCO-Stuff 10k as the paper trains it (Section 4): 40.7 mIoU, multi-scale and flipped.

ResNet-101 at output stride 8, crops of 520 x 520, batches of 8, 60,000 steps, learning rate 0.001
decayed linearly; 9,000 training and 1,000 validation images, 171 categories. The paper used
eight GPUs with 12 GB and starts from ImageNet weights.

    ranet port resnet101.pth --model resnet101 --output weights/resnet101
    ranet train --config configs/ranet_resnet101_coco_stuff_520_60k.py --workdir runs/coco_stuff
    ranet evaluate runs/coco_stuff --config.eval.flip=True \\
        --config.eval.scales="(0.5, 0.75, 1.0, 1.25, 1.5, 1.75)"
"""

from ml_collections import ConfigDict

from ranet_jax.config import default_config


def get_config() -> ConfigDict:
    """The experiment."""
    config = default_config()
    config.data.name = "coco_stuff"
    config.data.crop_size = (520, 520)
    config.data.brightness = 10 / 255

    config.model.backbone = "resnet101"
    config.model.init_from = "weights/resnet101"
    config.model.dtype = "bfloat16"

    config.optimizer.learning_rate = 0.001
    config.train.steps = 60_000
    config.train.batch_size = 8

    config.eval.mode = "slide"
    config.eval.crop_size = (520, 520)
    return config
