"""Report what a config builds: feature sizes and parameter counts, computed from shapes alone."""

import dataclasses
import math
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ranet_jax.display.tables import table
from ranet_jax.errors import check_counts
from ranet_jax.models import build_model


def parameter_shapes(config: ConfigDict, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its path, without computing any values.

    Raises:
      UserError: `config.model` does not describe a valid network.
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


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a config builds.

    Attributes:
      crop_size: height and width of the training images.
      num_classes: number of categories.
      features: sizes of the features and score maps of a crop, by name.
      parameters: shape of every parameter by its path.
    """

    crop_size: tuple[int, int]
    num_classes: int
    features: dict[str, tuple[int, ...]]
    parameters: dict[str, tuple[int, ...]]

    @property
    def total(self) -> int:
        """Total number of parameters."""
        return sum(map(math.prod, self.parameters.values()))

    def modules(self) -> dict[str, int]:
        """Number of parameters of each module."""
        groups: dict[str, int] = {}
        for path, shape in self.parameters.items():
            group = "/".join(path.split("/")[:2])
            groups[group] = groups.get(group, 0) + math.prod(shape)
        return groups

    def text(self, each: bool = False) -> str:
        """List the features, then the parameters by module, or with `each` every parameter."""
        lines = [f"input               {self._input()}"]
        for name, shape in self.features.items():
            lines.append(f"{name:<20}{_times(shape)}")
        lines += ["", *(f"{count:>12,}  {name}" for name, count in self._counts(each))]
        return "\n".join(lines)

    def tables(self, each: bool = False) -> str:
        """The same information as `text`, as two Markdown tables."""
        sizes = [("input", self._input())]
        sizes += [(name, _times(shape)) for name, shape in self.features.items()]
        counts = [(name, f"{count:,}") for name, count in self._counts(each)]
        tables = (
            table(("features", "height x width x channels"), sizes),
            table(("module" if not each else "parameter", "parameters"), counts),
        )
        return "\n\n".join(tables)

    def to_json(self, each: bool = False) -> dict[str, Any]:
        """The same information as a plain dictionary."""
        fields: dict[str, Any] = {
            "crop_size": list(self.crop_size),
            "num_classes": self.num_classes,
            "features": {name: list(shape) for name, shape in self.features.items()},
            "modules": self.modules(),
            "num_parameters": self.total,
        }
        if each:
            fields["parameters"] = {path: list(shape) for path, shape in self.parameters.items()}
        return fields

    def _input(self) -> str:
        return f"{_times(self.crop_size)} x 3, {self.num_classes} categories"

    def _counts(self, each: bool) -> list[tuple[str, int]]:
        """Each module or parameter with its number of parameters, and last the total."""
        counts = list(self.modules().items())
        if each:
            counts = [
                (f"{path} {shape}", math.prod(shape)) for path, shape in self.parameters.items()
            ]
        return [*counts, ("parameters in total", self.total)]


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def inspect_config(config: ConfigDict, num_classes: int) -> Inspection:
    """Find the sizes of the features of a training crop, and the shapes of all parameters.

    Raises:
      UserError: `config.model` does not describe a valid network, or the number of categories is
        not from 1 to 32,768.
    """
    check_counts({"number of categories": num_classes})
    shapes = parameter_shapes(config, num_classes)
    height, width = config.data.crop_size
    return Inspection((height, width), num_classes, _features(config, num_classes), shapes)
