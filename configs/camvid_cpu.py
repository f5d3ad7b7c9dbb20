"""RANet on CamVid for a CPU: ResNet-18 of half width at output stride 16, from random weights.

367 training, 101 validation and 233 test images of 360 x 480, 11 categories. On two CPU cores it
trains in less than 40 minutes.

    ranet prepare camvid --source DIR
    ranet train --config configs/camvid_cpu.py --workdir runs/camvid
    ranet evaluate runs/camvid --split test --pictures 6
    ranet predict runs/camvid DIR/test --output predictions
"""

from ml_collections import ConfigDict

from ranet_configs._common import small_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = small_experiment("camvid", steps=1000)
    config.model.backbone = "resnet18"
    config.model.width = 32
    config.model.output_stride = 16

    config.optimizer.learning_rate = 0.05
    config.optimizer.warmup_steps = 50

    config.train.eval_every = 500
    config.train.checkpoint_every = 100
    return config
