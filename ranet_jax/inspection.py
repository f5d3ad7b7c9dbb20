"""What a config builds: feature sizes and parameter counts, from shapes alone."""

import math
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ranet_jax.errors import UserError
from ranet_jax.models import build_model


def parameter_shapes(config: ConfigDict, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its path, nothing computed.

    Raises:
      UserError: `config.model` describes no network.
    """
    model = build_model(config, num_classes)
    images = jax.ShapeDtypeStruct((1, *config.data.crop_size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.PRNGKey(0), images)
    params = flax.traverse_util.flatten_dict(variables["params"], sep="/")
    return {path: value.shape for path, value in params.items()}


def _features(config: ConfigDict, num_classes: int) -> dict[str, tuple[int, ...]]:
    model = build_model(config, num_classes)
    images = jax.ShapeDtypeStruct((1, *config.data.crop_size, 3), jnp.float32)

    def forward(key: Any, images: Any) -> Any:
        variables = model.init(key, images)
        stages = model.apply(variables, images, method=lambda m, x: m.backbone(x, False))
        outputs = model.apply(variables, images)
        return stages, {name: getattr(outputs, name) for name in ("coarse", "boundary", "fine")}

    stages, scores = jax.eval_shape(forward, jax.random.PRNGKey(0), images)
    ordered = {name: stages[name] for name in ("stem", *sorted(stages.keys() - {"stem"}))}
    return {k: v.shape[1:] for k, v in (ordered | scores).items() if v is not None}


def inspect_config(config: ConfigDict, num_classes: int, parameters: bool = False) -> str:
    """Text: feature sizes at the training crop, then parameters by module, or one by one.

    Raises:
      UserError: `config.model` describes no network, or there are no classes.
    """
    if num_classes < 1:
        raise UserError(f"The number of categories is {num_classes}; choose 1 or more.")
    shapes = parameter_shapes(config, num_classes)
    sizes = {path: math.prod(shape) for path, shape in shapes.items()}
    height, width = config.data.crop_size
    lines = [f"input               {height} x {width} x 3, {num_classes} categories"]
    for name, shape in _features(config, num_classes).items():
        lines.append(f"{name:<20}{' x '.join(map(str, shape))}")
    lines.append("")
    if parameters:
        lines += [f"{sizes[path]:>12,}  {path} {shape}" for path, shape in shapes.items()]
    else:
        groups: dict[str, int] = {}
        for path, size in sizes.items():
            group = "/".join(path.split("/")[:2])
            groups[group] = groups.get(group, 0) + size
        lines += [f"{size:>12,}  {group}" for group, size in groups.items()]
    lines.append(f"{sum(sizes.values()):>12,}  parameters in all")
    return "\n".join(lines)
