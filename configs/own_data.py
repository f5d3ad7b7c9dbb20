"""RANet on a data set of your own: what `ranet train --data` starts from.

It fits the class weights, the crop, the batch, the steps and the evaluations to the data and to the
time that it is given, prints what it chose and stores it with the run.

    ranet prepare folder --source my_data --name mine --data-dir my_tfds
    ranet train --data mine --data-dir my_tfds --minutes 30 --workdir runs/mine
    ranet evaluate runs/mine
"""

from ml_collections import ConfigDict

from ranet_jax.config import default_config


def get_config() -> ConfigDict:
    """The experiment, but for what is fitted."""
    config = default_config()
    config.data.name = "folder"
    config.data.crop_size = (240, 320)
    config.data.scale_range = (0.6, 1.5)
    config.data.brightness = 0.1
    config.data.contrast = 0.2
    config.data.saturation = 0.2

    config.model.backbone = "resnet18"
    config.model.stages = 3
    config.model.channels = 128
    config.model.num_regions = 16

    config.optimizer.learning_rate = 0.05
    config.optimizer.weight_decay = 1e-4
    config.optimizer.power = 0.9
    config.optimizer.clip_norm = 10.0

    config.train.steps = 1000
    config.train.batch_size = 8
    config.train.log_every = 10

    config.eval.batch_size = 4
    return config
