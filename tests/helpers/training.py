"""A training run small enough for tests, also as a separate program that tests can kill.

python tests/helpers/training.py WORKDIR STEPS [SECONDS A BATCH TAKES [MODE [HOST:PORT PROCESS]]]

With the last two it is one of two processes that share each batch.
"""

import json
import pathlib
import sys
import time

import jax
import numpy as np

from ranet_jax.checkpoints import load_variables
from ranet_jax.config import default_config
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.training.loop import train

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
    """The batch with a number: brighter pixels are "right"."""
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


def share(batches):
    """This process's part of every batch."""
    for one in batches:
        own = np.split(np.arange(8), jax.process_count())[jax.process_index()]
        yield {name: array[own] for name, array in one.items()}


def records(workdir):
    lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_same_run(workdir, expected, rtol=0.0):
    found, wanted = records(workdir), records(expected)
    assert [r["step"] for r in found] == [r["step"] for r in wanted]
    for a, b in zip(found, wanted, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=rtol, err_msg=str(a))
    one, other = (load_variables(path) for path in (workdir, expected))
    assert one.step == other.step
    leaves = (jax.tree.leaves(each.variables) for each in (one, other))
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def main(workdir, steps, pause="0", mode="pmap", coordinator=None, process=None):
    if coordinator is not None:
        jax.distributed.initialize(coordinator, 2, int(process))
    config = tiny_config(int(steps))
    config.train.parallel = mode
    train(
        config,
        workdir,
        DATASET,
        lambda first: share(train_batches(first, float(pause))),
        lambda: share(eval_batches()),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
