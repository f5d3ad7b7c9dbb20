"""RANet on CamVid in 200 steps: the base of the rows of `ranet reproduce --data camvid`.

It trains the network of `camvid_resnet18_pretrained.py` at output stride 8, with losses that weigh
rare classes more and a fifth of the learning rate for the pretrained layers. At the full rate the
gradients of these layers soon grow, most of all with RANet, which has two more losses.

    ranet prepare camvid --source DIR
    ranet port resnet18.pth --model resnet18 --output weights/resnet18
    ranet train --config configs/ranet_resnet18_camvid_200.py --workdir runs/camvid_200
    ranet reproduce table1 --data camvid --rows none psp nonlocal ranet --seeds 3 --output results
"""

from ml_collections import ConfigDict

from ranet_configs._common import small_experiment


def get_config() -> ConfigDict:
    """The experiment."""
    config = small_experiment("camvid", steps=200)
    config.data.scale_range = (0.6, 1.75)

    config.model.init_from = "weights/resnet18"
    config.model.backbone = "resnet18"
    config.model.stages = 3

    # 1 / ln(1.02 + share of the training pixels), scaled to an average of 1 over the pixels.
    config.loss.class_weights = (0.8, 0.6, 4.8, 0.5, 2.2, 1.25, 4.5, 4.6, 1.8, 5.4, 6.3)

    config.optimizer.learning_rate = 0.03
    config.optimizer.lr_multipliers = (("backbone", 0.2),)
    config.optimizer.warmup_steps = 10

    config.train.eval_every = 200
    config.train.checkpoint_every = 50
    return config
