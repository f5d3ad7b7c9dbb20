"""RANet on CamVid at output stride 8: ResNet-18 up to its third stage, ImageNet's weights.

As `camvid_resnet18_pretrained.py`, with four times the feature map, 87 epochs instead of 6, and
losses that weigh rare classes more.

    ranet train --config configs/ranet_resnet18_camvid_4k.py --workdir runs/camvid_4k
    ranet evaluate runs/camvid_4k --split test
"""

from ml_collections import ConfigDict

from ranet_jax.config import default_config


def get_config() -> ConfigDict:
    """The experiment."""
    config = default_config()
    config.data.name = "camvid"
    config.data.crop_size = (240, 320)
    config.data.scale_range = (0.6, 1.75)
    config.data.brightness = 0.1

    config.model.init_from = "weights/resnet18"
    config.model.backbone = "resnet18"
    config.model.stages = 3
    config.model.channels = 128
    config.model.num_regions = 16

    # 1 / ln(1.02 + share of the training pixels), scaled to an average of 1 over the pixels.
    config.loss.class_weights = (0.8, 0.6, 4.8, 0.5, 2.2, 1.25, 4.5, 4.6, 1.8, 5.4, 6.3)

    config.optimizer.learning_rate = 0.03
    config.optimizer.weight_decay = 1e-4
    config.optimizer.power = 0.9
    config.optimizer.warmup_steps = 50

    config.train.steps = 4000
    config.train.batch_size = 8
    config.train.log_every = 10
    config.train.eval_every = 500
    config.train.checkpoint_every = 100

    config.eval.batch_size = 4
    return config
