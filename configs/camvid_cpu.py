"""RANet on CamVid for a CPU: ResNet-18 of half width at output stride 16, from random weights.

367 training, 101 validation and 233 test images of 360 x 480, 11 categories. On two CPU cores it
trains in less than 40 minutes.

    ranet prepare camvid --source DIR
    ranet train --config configs/camvid_cpu.py --workdir runs/camvid
    ranet evaluate runs/camvid --split test --pictures 6
    ranet predict runs/camvid DIR/test --output predictions
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

    config.model.backbone = "resnet18"
    config.model.width = 32
    config.model.output_stride = 16
    config.model.channels = 128
    config.model.num_regions = 16

    config.optimizer.learning_rate = 0.05
    config.optimizer.weight_decay = 1e-4
    config.optimizer.power = 0.9
    config.optimizer.warmup_steps = 50

    config.train.steps = 1000
    config.train.batch_size = 8
    config.train.log_every = 10
    config.train.eval_every = 500
    config.train.checkpoint_every = 100

    config.eval.batch_size = 4
    return config
