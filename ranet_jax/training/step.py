"""The training state and the step of one device, pure functions of arrays."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array
from ml_collections import ConfigDict

from ranet_jax.config import check_config
from ranet_jax.pipeline.batching import Batch
from ranet_jax.training.losses import TERMS, BoundaryLoss, count_valid, segmentation_loss
from ranet_jax.training.optimizer import check_optimizer
from ranet_jax.training.parallel import AXIS, check_batch_size, count_parts


@struct.dataclass
class TrainState:
    """All that training needs to resume exactly; `step` counts the updates made so far.

    `rng` never changes; every step folds its number into it. `ema_params` is None if no moving
    average is kept. JAX also builds states of things other than arrays, such as their shapes.
    """

    step: Any  # int32 []
    rng: Any  # uint32 [2]
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any = None


def check_training(config: ConfigDict, devices: int) -> None:
    """Raise `UserError` unless a config describes a training that these devices can share."""
    check_config(config)
    BoundaryLoss.from_config(config.loss)
    check_optimizer(config.optimizer, config.train.steps)
    check_batch_size(config.train, devices)


def init_variables(model: nn.Module, rng: Array, crop_size: tuple[int, int]) -> Any:
    """Fresh parameters and batch statistics of a segmenter."""
    images = jnp.zeros((1, *crop_size, 3), jnp.float32)
    return jax.jit(model.init)(rng, images)


def create_state(
    variables: Any, optimizer: optax.GradientTransformation, rng: Array, ema: bool
) -> TrainState:
    """State before the first step; its arrays share no memory, so that it can be donated."""
    return TrainState(
        step=jnp.int32(0),
        rng=rng,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
        ema_params=jax.tree.map(jnp.copy, variables["params"]) if ema else None,
    )


def make_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config: ConfigDict,
    ignore_label: int,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """The step of one device on its part of the batch, to be mapped over the axis "data".

    The loss is averaged over the valid pixels of the whole batch, however the batch is split into
    devices and microbatches. The metrics are "loss", one for each term of the loss, and
    "gradient_norm".
    """
    weights = {name: config.loss[name] for name in TERMS}
    class_weights = config.loss.class_weights
    boundary_loss = BoundaryLoss.from_config(config.loss)
    ema_decay = config.optimizer.ema_decay

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        count = jax.lax.psum(count_valid(batch["label"], ignore_label), AXIS)
        step_rng = jax.random.fold_in(state.rng, state.step)
        parts = count_parts(len(batch["label"]), config.train)

        def loss(params: Any, batch_stats: Any, part: Batch, rng: Array) -> tuple[Array, Any]:
            outputs, updated = model.apply(
                {"params": params, "batch_stats": batch_stats},
                part["image"],
                train=True,
                rngs={"dropout": rng},
                mutable=["batch_stats"],
            )
            total, terms = segmentation_loss(
                outputs,
                part["label"],
                weights,
                ignore_label,
                count,
                class_weights,
                boundary_loss,
                config.model.align_corners,
            )
            return total, (updated["batch_stats"], {"loss": total} | terms)

        def accumulate(carry: tuple[Any, Any], indexed: tuple[Array, Batch]) -> Any:
            batch_stats, gradients = carry
            index, part = indexed
            rng = jax.random.fold_in(step_rng, index)
            (_, (batch_stats, terms)), gradient = jax.value_and_grad(loss, has_aux=True)(
                state.params, batch_stats, part, rng
            )
            return (batch_stats, jax.tree.map(jnp.add, gradients, gradient)), terms

        start = (state.batch_stats, jax.tree.map(jnp.zeros_like, state.params))
        if parts == 1:  # no loop: inside one, XLA's CPU convolutions are ten times slower
            (batch_stats, gradients), terms = accumulate(start, (jnp.int32(0), batch))
        else:
            split = {k: x.reshape(parts, -1, *x.shape[1:]) for k, x in batch.items()}
            (batch_stats, gradients), terms = jax.lax.scan(
                accumulate, start, (jnp.arange(parts), split)
            )
        gradients = jax.lax.psum(gradients, AXIS)
        metrics = jax.lax.psum({name: x.sum() for name, x in terms.items()}, AXIS)
        metrics["gradient_norm"] = optax.tree.norm(gradients)

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = None
        if ema_decay is not None:
            ema_params = optax.incremental_update(params, state.ema_params, 1.0 - ema_decay)
        updated = TrainState(state.step + 1, state.rng, params, batch_stats, opt_state, ema_params)
        return updated, metrics

    return step
