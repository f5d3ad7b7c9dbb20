"""RANet on CamVid for a CPU: ResNet-18 up to its third stage, ImageNet weights, 300 steps.

`ranet port` makes the directory of weights from a torchvision state dict; with --allow-missing, a
file that ends at the third stage is enough. Training without `config.model.init_from` gives the
control that starts from random weights.

    ranet prepare camvid --source DIR
    ranet port resnet18.pth --model resnet18 --output weights/resnet18
    ranet train --config configs/camvid_resnet18_pretrained.py --workdir runs/camvid_pretrained
    ranet evaluate runs/camvid_pretrained --split test --pictures 6
"""

from ml_collections import ConfigDict

from ranet_configs._common import small_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = small_experiment("camvid", steps=300)
    config.model.init_from = "weights/resnet18"
    config.model.backbone = "resnet18"
    config.model.stages = 3
    config.model.output_stride = 16

    config.optimizer.learning_rate = 0.02
    config.optimizer.warmup_steps = 20

    config.train.eval_every = 300
    config.train.checkpoint_every = 50
    return config
