"""A training run small enough for tests, also as a program of its own to be killed.

python tests/training.py WORKDIR STEPS [seconds a batch takes]
"""

import sys
import time

import numpy as np

from ranet_jax.config import default_config
from ranet_jax.dataset import DatasetMetadata
from ranet_jax.train import train

DATASET = DatasetMetadata("toy", ("left", "right"), ((200, 0, 0), (0, 0, 200)))
SIZE = (24, 24)


def tiny_config(steps=6):
    config = default_config()
    config.data.name = "toy"
    config.data.crop_size = SIZE
    config.model.update(context="none", backbone="resnet18", width=4, stages=1, channels=8)
    config.optimizer.learning_rate = 0.02
    config.train.update(
        steps=steps,
        batch_size=8,
        log_every=3,
        eval_every=steps,
        checkpoint_every=2,
        keep_checkpoints=2,
    )
    config.eval.batch_size = 8
    return config


def batch(number):
    """Batch of a number: brighter pixels are "right"."""
    rng = np.random.default_rng(number)
    label = (rng.random((8, *SIZE)) < 0.5).astype(np.uint8)
    noise = rng.normal(size=(8, *SIZE, 3)).astype(np.float32)
    return {"image": noise + label[..., None], "label": label}


def train_batches(first, pause=0.0, on_batch=lambda number: None):
    number = first
    while True:
        number += 1
        on_batch(number)
        time.sleep(pause)
        yield batch(number)


def eval_batches():
    return [batch(-n % 1000 + 500) | {"mask": np.ones(8, bool)} for n in range(2)]


if __name__ == "__main__":
    wait = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    train(
        tiny_config(int(sys.argv[2])),
        sys.argv[1],
        DATASET,
        lambda first: train_batches(first, wait),
        eval_batches,
    )
