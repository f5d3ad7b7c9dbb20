"""RANet on CamVid for a CPU: ResNet-18 up to its third stage, ImageNet's weights, 300 steps.

`ranet port` makes the weights' directory of a torchvision state dict; a file that ends at the
third stage does, with --allow-missing. Trained without `config.model.init_from` it is the control
from random weights.

    ranet prepare camvid --source DIR
    ranet port resnet18.pth --model resnet18 --output weights/resnet18
    ranet train --config configs/camvid_resnet18_pretrained.py --workdir runs/camvid_pretrained
    ranet evaluate runs/camvid_pretrained --split test --pictures 6
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

    config.model.init_from = "weights/resnet18"
    config.model.backbone = "resnet18"
    config.model.stages = 3
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
