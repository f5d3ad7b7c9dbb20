"""Settings that the experiments of one family share; each file in `configs/` sets the rest."""

from ml_collections import ConfigDict

from ranet_jax.config import default_config


def paper_experiment(dataset: str, crop: int, steps: int) -> ConfigDict:
    """The paper's training on a data set: crops of `crop` x `crop` pixels, batches of 8.

    Whole images are scored through a sliding window of the size of the crops.
    """
    config = default_config()
    config.data.name = dataset
    config.data.crop_size = (crop, crop)
    config.data.brightness = 10 / 255

    config.model.dtype = "bfloat16"

    config.optimizer.learning_rate = 0.001
    config.train.steps = steps
    config.train.batch_size = 8

    config.eval.mode = "slide"
    config.eval.crop_size = (crop, crop)
    return config


def small_experiment(dataset: str, steps: int) -> ConfigDict:
    """Training on one machine without an accelerator: crops of 240 x 320, few context channels."""
    config = default_config()
    config.data.name = dataset
    config.data.crop_size = (240, 320)
    config.data.scale_range = (0.6, 1.5)
    config.data.brightness = 0.1

    config.model.channels = 128
    config.model.num_regions = 16

    config.optimizer.weight_decay = 1e-4
    config.optimizer.power = 0.9

    config.train.steps = steps
    config.train.batch_size = 8
    config.train.log_every = 10

    config.eval.batch_size = 4
    return config


def vary_colors(config: ConfigDict) -> None:
    """Vary colours strongly, for test images that were taken in other light."""
    config.data.brightness = 0.25
    config.data.contrast = 0.5
    config.data.saturation = 0.5
    config.data.hue = 0.05
    config.data.blur = 1.0
