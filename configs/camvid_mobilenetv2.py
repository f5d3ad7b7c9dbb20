"""RANet on CamVid with MobileNetV2 at output stride 16, for CPUs, from ImageNet weights.

ranet prepare camvid --source DIR
ranet port mobilenet_v2.pth --model mobilenetv2 --output weights/mobilenetv2
ranet train --config configs/camvid_mobilenetv2.py --workdir runs/camvid_mobilenetv2
ranet evaluate runs/camvid_mobilenetv2 --split test --pictures 6
"""

from ml_collections import ConfigDict

from ranet_configs._common import small_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = small_experiment("camvid", steps=300)
    config.model.init_from = "weights/mobilenetv2"
    config.model.backbone = "mobilenetv2"
    config.model.output_stride = 16

    config.optimizer.learning_rate = 0.02
    config.optimizer.warmup_steps = 20

    config.train.eval_every = 300
    config.train.checkpoint_every = 50
    return config
