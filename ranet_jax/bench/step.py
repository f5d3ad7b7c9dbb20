"""`ranet bench step`: the training step of a config, compiled for a machine that is not there.

The same step without a context block is compiled, too: the difference is what the block adds.
"""

import dataclasses
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ranet_jax.bench.compiled import (
    Compiled,
    cells,
    compile_lowered,
    notes,
    results,
    target_results,
)
from ranet_jax.bench.random_batch import without_context
from ranet_jax.bench.scaling import NOTE, scaling
from ranet_jax.bench.scaling import cells as scaling_cells
from ranet_jax.bench.targets import Target
from ranet_jax.display.progress import track
from ranet_jax.display.tables import table
from ranet_jax.errors import check_counts
from ranet_jax.models import build_model
from ranet_jax.pipeline.metadata import IGNORE_LABEL
from ranet_jax.training import parallel
from ranet_jax.training.optimizer import build_optimizer
from ranet_jax.training.step import TrainState, check_training, create_state, make_step


@dataclasses.dataclass(frozen=True)
class StepCost:
    """A training step, named by its context block, and what the compiler makes of it."""

    context: str
    parameters: int
    compiled: Compiled


def compile_steps(config: ConfigDict, target: Target, num_classes: int) -> list[StepCost]:
    """Compile a config's training step for `target`, and the same without a context block.

    Raises:
      UserError: the config is not valid for training, or does not fit the target's devices.
    """
    check_counts({"number of categories": num_classes})
    check_training(config, len(target.devices))
    configs = [config]
    if config.model.context != "none":
        configs.append(without_context(config))
    costs = []
    for each in track(configs, unit="step", desc="compile"):
        lowered, state = _lower(each, target, num_classes)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        costs.append(StepCost(each.model.context, parameters, compile_lowered(lowered, target)))
    return costs


def _lower(
    config: ConfigDict, target: Target, num_classes: int
) -> tuple[jax.stages.Lowered, TrainState]:
    """Lower the step from shapes alone, mapped as the config says; also give its state's shapes."""
    model = build_model(config, num_classes, parallel.AXIS)
    height, width = config.data.crop_size
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.PRNGKey(0))
    variables = jax.eval_shape(model.init, key, image)
    optimizer, _ = build_optimizer(config.optimizer, config.train.steps, variables["params"])
    state = jax.eval_shape(
        lambda variables, key: create_state(
            variables, optimizer, key, config.optimizer.ema_decay is not None
        ),
        variables,
        key,
    )
    count = config.train.batch_size
    batch = {
        "image": jax.ShapeDtypeStruct((count, height, width, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((count, height, width), jnp.uint8),
    }
    step = make_step(model, optimizer, config, IGNORE_LABEL)
    with jax.set_mesh(target.mesh()):
        lowered = parallel.lower_step(step, config.train.parallel, target.devices, state, batch)
    return lowered, state


def steps_report(costs: list[StepCost], config: ConfigDict, target: Target, classes: int) -> str:
    """Markdown: one column per step, then how the figures were obtained."""
    modelled = [scaling_cells(scaling(cost.compiled, target)) for cost in costs]
    columns = [
        {"parameters": f"{cost.parameters:,}"} | cells(cost.compiled, target) | model
        for cost, model in zip(costs, modelled, strict=True)
    ]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    header = ("per device", *(f"context={cost.context}" for cost in costs))
    height, width = config.data.crop_size
    mapping = (
        f"Training step, batch {config.train.batch_size} of {height} x {width} pixels, {classes}"
        f" categories, {config.model.dtype}, mapped by {config.train.parallel} over"
        f" {target.name}: {len(target.devices)} x {target.device_kind}."
    )
    named = [(f"context={cost.context}", cost.compiled) for cost in costs]
    model = [textwrap.fill(NOTE, 100)] if all(modelled) else []
    return "\n\n".join([mapping, table(header, rows), *model, notes(named, target)])


def steps_results(
    costs: list[StepCost], config: ConfigDict, target: Target, classes: int
) -> dict[str, Any]:
    """Plain dictionary of the costs, the target and what was compiled for it."""
    return {
        "target": target_results(target),
        "batch_size": config.train.batch_size,
        "crop_size": list(config.data.crop_size),
        "num_classes": classes,
        "dtype": config.model.dtype,
        "parallel": config.train.parallel,
        "steps": [
            {
                "context": cost.context,
                "parameters": cost.parameters,
                **results(cost.compiled),
                **_scaling_results(cost, target),
            }
            for cost in costs
        ],
    }


def _scaling_results(cost: StepCost, target: Target) -> dict[str, Any]:
    found = scaling(cost.compiled, target)
    if found is None:
        return {}
    return {"scaling": dataclasses.asdict(found) | {"efficiency": found.efficiency}}
