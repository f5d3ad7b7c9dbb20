"""Learning-rate schedule and optimiser."""

import re
from typing import Any

import flax.traverse_util
import optax
from ml_collections import ConfigDict

from ranet_jax.errors import UserError


def polynomial_decay(
    learning_rate: float, steps: int, power: float = 1.0, warmup_steps: int = 0
) -> optax.Schedule:
    """Linear warm-up from 0, then `learning_rate * (1 - progress) ** power` down to 0 at `steps`.

    Power 1 is the paper's linear decay, 0.9 the "poly" schedule of DeepLab (Chen et al., 2017).

    Raises:
      UserError: the warm-up does not end before the training does.
    """
    if not 0 <= warmup_steps < steps:
        raise UserError(
            f"config.optimizer.warmup_steps is {warmup_steps}; choose 0 or more, and fewer than"
            f" the {steps} training steps."
        )
    decay = optax.polynomial_schedule(learning_rate, 0.0, power, steps - warmup_steps)
    if warmup_steps == 0:
        return decay
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, decay], [warmup_steps])


def check_optimizer(optimizer: ConfigDict, steps: int) -> None:
    """Raise `UserError` for a warm-up or a pattern that is wrong for any network and data."""
    polynomial_decay(optimizer.learning_rate, steps, optimizer.power, optimizer.warmup_steps)
    _compiled(tuple(dict(optimizer.lr_multipliers)))


def _compiled(patterns: tuple[str, ...]) -> dict[str, re.Pattern[str]]:
    try:
        return {pattern: re.compile(pattern) for pattern in patterns}
    except re.error as error:
        raise UserError(
            f"config.optimizer.lr_multipliers holds {error.pattern!r}, which is not a regular"
            f" expression: {error}."
        ) from error


def parameter_groups(params: Any, patterns: tuple[str, ...]) -> Any:
    """Tree of group names: the first pattern found in a parameter's path, or "rest".

    A path is its keys joined by "/", e.g. `backbone/layer1_block0/conv1/kernel`.

    Raises:
      UserError: a pattern is not a regular expression, or no parameter belongs to it.
    """
    compiled = _compiled(patterns)
    paths = flax.traverse_util.flatten_dict(params, sep="/")
    groups = {
        path: next((name for name, pattern in compiled.items() if pattern.search(path)), "rest")
        for path in paths
    }
    unused = set(patterns) - set(groups.values())
    if unused:
        raise UserError(
            f"config.optimizer.lr_multipliers holds {sorted(unused)}, which no parameter's path"
            f" contains; an example of a path is {min(groups)}."
        )
    return flax.traverse_util.unflatten_dict(groups, sep="/")


def build_optimizer(
    optimizer: ConfigDict, steps: int, params: Any
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """SGD with momentum and coupled weight decay, as in PyTorch, and its learning-rate schedule.

    Weight decay applies to kernels, not to biases and BatchNorm's parameters, which have one axis.
    Gradients are clipped first, by their global norm, if `clip_norm` is set.

    Raises:
      UserError: the warm-up or a learning-rate multiplier does not fit.
    """
    schedule = polynomial_decay(
        optimizer.learning_rate, steps, optimizer.power, optimizer.warmup_steps
    )
    multipliers = dict(optimizer.lr_multipliers)
    groups = parameter_groups(params, tuple(multipliers))
    kernels = {
        path: value.ndim > 1 for path, value in flax.traverse_util.flatten_dict(params).items()
    }
    parts = [] if optimizer.clip_norm is None else [optax.clip_by_global_norm(optimizer.clip_norm)]
    parts += [
        optax.add_decayed_weights(
            optimizer.weight_decay, mask=flax.traverse_util.unflatten_dict(kernels)
        ),
        optax.trace(decay=optimizer.momentum),
        optax.scale_by_learning_rate(schedule),
    ]
    if multipliers:
        scales = {name: optax.scale(factor) for name, factor in multipliers.items()}
        parts.append(optax.multi_transform(scales | {"rest": optax.identity()}, groups))
    return optax.chain(*parts), schedule
