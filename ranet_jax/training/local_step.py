"""The training step of a config on this machine's devices, without a training loop."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ranet_jax.models import build_model
from ranet_jax.pipeline.batching import Batch
from ranet_jax.pipeline.metadata import IGNORE_LABEL
from ranet_jax.training import parallel
from ranet_jax.training.optimizer import build_optimizer
from ranet_jax.training.step import check_training, create_state, init_variables, make_step


def build_step(config: ConfigDict, num_classes: int) -> tuple[Any, Callable[[Batch], float]]:
    """Fresh variables of a config's network, copied to the host, and its step on a host's batch.

    The step keeps the state internally and returns the loss of the fine scores once it has ended.

    Raises:
      UserError: the config is not valid for training, or does not fit the devices.
    """
    check_training(config, jax.device_count())
    model = build_model(config, num_classes, parallel.AXIS)
    variables = init_variables(model, jax.random.PRNGKey(0), config.data.crop_size)
    copied = jax.tree.map(np.array, jax.device_get(variables))
    optimizer, _ = build_optimizer(config.optimizer, config.train.steps, variables["params"])
    ema = config.optimizer.ema_decay is not None
    state = create_state(variables, optimizer, jax.random.PRNGKey(1), ema)
    mapped = parallel.map_step(
        make_step(model, optimizer, config, IGNORE_LABEL), config.train.parallel
    )

    def step(batch: Batch) -> float:
        nonlocal state
        state, metrics = mapped(state, batch)
        jax.block_until_ready(state)
        return float(metrics["fine"])

    return copied, step
