"""The demo: a small RANet on the built-in data set of overlapping shapes.

ranet prepare shapes
ranet train --config configs/shapes.py --workdir runs/demo
ranet evaluate runs/demo --pictures 6
"""

from ml_collections import ConfigDict

from ranet_jax.config import default_config


def get_config() -> ConfigDict:
    """The experiment."""
    config = default_config()
    config.data.name = "shapes"
    config.data.crop_size = (128, 128)
    config.data.scale_range = (1.0, 1.0)

    config.model.backbone = "resnet18"
    config.model.width = 24
    config.model.stages = 2
    config.model.channels = 64
    config.model.num_regions = 16

    config.optimizer.learning_rate = 0.05
    config.optimizer.weight_decay = 1e-4
    config.optimizer.warmup_steps = 30

    config.train.steps = 1000
    config.train.batch_size = 8
    config.train.log_every = 10
    config.train.eval_every = 500
    config.train.checkpoint_every = 100

    config.eval.batch_size = 16
    return config
