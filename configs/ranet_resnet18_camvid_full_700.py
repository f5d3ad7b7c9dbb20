"""RANet on CamVid, trained further: the network of `ranet_resnet18_camvid_2k.py`, on whole images.

It starts from the weights of that training and uses crops of the images' full size, in colours that
vary more, since the drives of `test` were filmed in other light than those of `train`.

    ranet train --config configs/ranet_resnet18_camvid_2k.py --workdir runs/camvid_2k
    ranet train --config configs/ranet_resnet18_camvid_full_700.py --workdir runs/camvid_full
    ranet evaluate runs/camvid_full --split test
"""

from ml_collections import ConfigDict

from ranet_configs._common import vary_colors
from ranet_configs.ranet_resnet18_camvid_2k import get_config as first_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = first_experiment()
    config.data.crop_size = (360, 480)
    vary_colors(config)

    config.model.init_from = "runs/camvid_2k"

    config.optimizer.learning_rate = 0.02
    config.optimizer.warmup_steps = 20

    config.train.steps = 700
    config.train.eval_every = 700
    config.train.checkpoint_every = 50
    return config
