"""RANet on CamVid at output stride 8: ResNet-18 up to its third stage, ImageNet weights.

It trains the network of `ranet_resnet18_camvid_200.py` for 44 epochs instead of 4 and varies
brightness, contrast and saturation more, since the images of `test` differ from those of `train`
in these.

    ranet prepare camvid --source DIR
    ranet port resnet18.pth --model resnet18 --output weights/resnet18
    ranet train --config configs/ranet_resnet18_camvid_2k.py --workdir runs/camvid_2k
    ranet evaluate runs/camvid_2k --split test
"""

from ml_collections import ConfigDict

from ranet_configs._common import small_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = small_experiment("camvid", steps=2000)
    config.data.scale_range = (0.6, 1.75)
    config.data.brightness = 0.15
    config.data.contrast = 0.4
    config.data.saturation = 0.4

    config.model.init_from = "weights/resnet18"
    config.model.backbone = "resnet18"
    config.model.stages = 3

    # Square roots of the weights that the config of 200 steps has, 1 / ln(1.02 + share of the
    # training pixels); with those, networks gave rare classes too many pixels.
    config.loss.class_weights = (0.9, 0.8, 2.2, 0.7, 1.5, 1.1, 2.1, 2.1, 1.3, 2.3, 2.5)

    config.optimizer.learning_rate = 0.03
    config.optimizer.lr_multipliers = (("backbone", 0.2),)
    config.optimizer.warmup_steps = 50

    config.train.eval_every = 500
    config.train.checkpoint_every = 100
    return config
