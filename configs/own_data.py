"""RANet on a data set of your own: the config that `ranet train --data` starts from.

That command fits the class weights, the crop, the batch, the steps and the evaluations to the data
and to the given time, prints its choices and stores them with the run.

    ranet prepare folder --source my_data --name mine --data-dir my_tfds
    ranet train --data mine --data-dir my_tfds --minutes 30 --workdir runs/mine
    ranet evaluate runs/mine
"""

from ml_collections import ConfigDict

from ranet_configs._common import small_experiment


def get_config() -> ConfigDict:
    """The experiment, without the fields that are fitted to the data."""
    config = small_experiment("folder", 1000)
    config.data.contrast = 0.2
    config.data.saturation = 0.2

    config.model.backbone = "resnet18"
    config.model.stages = 3

    config.optimizer.learning_rate = 0.05
    config.optimizer.clip_norm = 10.0
    return config
