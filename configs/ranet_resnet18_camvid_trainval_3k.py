"""RANet on CamVid, trained further on `train` and `val` together, for scores on `test`.

It starts from 1,500 steps on `train`, with colours as varied as here. Scores are resized without
aligned corners, which fits images of 360 x 480 pixels at output stride 8, and evaluation uses a
moving average of the parameters. Its scores on `val` say nothing.

    ranet train --config configs/ranet_resnet18_camvid_2k.py --workdir runs/camvid_1500 \\
        --config.train.steps=1500 --config.data.brightness=0.25 --config.data.contrast=0.5 \\
        --config.data.saturation=0.5 --config.data.hue=0.05 --config.data.blur=1.0
    ranet train --config configs/ranet_resnet18_camvid_trainval_3k.py --workdir runs/camvid_trainval
    ranet evaluate runs/camvid_trainval --split test
"""

from ml_collections import ConfigDict

from ranet_configs._common import vary_colors
from ranet_configs.ranet_resnet18_camvid_2k import get_config as first_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = first_experiment()
    config.data.train_split = "train+val"
    vary_colors(config)

    config.model.init_from = "runs/camvid_1500"
    config.model.align_corners = False

    config.optimizer.learning_rate = 0.02
    config.optimizer.warmup_steps = 20
    config.optimizer.ema_decay = 0.998

    config.train.steps = 3000
    config.train.eval_every = 3000
    config.train.checkpoint_every = 100
    return config
