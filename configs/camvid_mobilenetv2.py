"""RANet on CamVid with MobileNetV2 at output stride 16, for CPUs, from ImageNet's weights.

ranet prepare camvid --source DIR
ranet port mobilenet_v2.pth --model mobilenetv2 --output weights/mobilenetv2
ranet train --config configs/camvid_mobilenetv2.py --workdir runs/camvid_mobilenetv2
ranet evaluate runs/camvid_mobilenetv2 --split test --pictures 6
"""

from ml_collections import ConfigDict

from ranet_jax.config import default_config


def get_config() -> ConfigDict:
    """The experiment."""
    config = default_config()
    config.data.name = "camvid"
    config.data.crop_size = (240, 320)
    config.data.scale_range = (0.6, 1.5)
    config.data.brightness = 0.1

    config.model.init_from = "weights/mobilenetv2"
    config.model.backbone = "mobilenetv2"
    config.model.output_stride = 16
    config.model.channels = 128
    config.model.num_regions = 16

    config.optimizer.learning_rate = 0.02
    config.optimizer.weight_decay = 1e-4
    config.optimizer.power = 0.9
    config.optimizer.warmup_steps = 20

    config.train.steps = 300
    config.train.batch_size = 8
    config.train.log_every = 10
    config.train.eval_every = 300
    config.train.checkpoint_every = 50

    config.eval.batch_size = 4
    return config
