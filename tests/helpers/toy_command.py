"""`ranet` as a program that trains on the toy data of `helpers.training`, as one of two processes.

python toy_command.py train --config toy_command.py --workdir WORKDIR --distributed ...

FAULT=PROCESS:STEP gives that process a label out of range in that step.
"""

import os
import sys

from ranet_jax.cli import supervise
from ranet_jax.cli.main import main


def get_config():
    """A training that takes a while, and saves often."""
    from helpers import training

    config = training.tiny_config(200)
    config.train.update(log_every=1, checkpoint_every=2)
    return config


def replace_data():
    """Let training read the toy data, whatever the config names."""
    import jax

    from helpers import training
    from ranet_jax.pipeline import training_data

    def train_batches(first):
        batches = training.share(training.train_batches(first, pause=0.1))
        for number, batch in enumerate(batches, first + 1):
            if os.environ.get("FAULT") == f"{jax.process_index()}:{number}":
                batch["label"][0, 0, 0] = 77
            yield batch

    def toy_data(config, arrays=None):
        return training_data.TrainingData(
            training.DATASET, train_batches, lambda: training.share(training.eval_batches())
        )

    training_data.open_training_data = toy_data


if __name__ == "__main__":
    if supervise.is_supervised():
        replace_data()
    sys.exit(main())
