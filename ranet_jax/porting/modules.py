"""The Flax module that a state dict is for, and the shapes of its arrays."""

from functools import cache
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from ranet_jax.errors import UserError
from ranet_jax.porting.coverage import Shape
from ranet_jax.porting.name_patterns import Naming
from ranet_jax.porting.networks import Network, Source
from ranet_jax.porting.stored import Tensors

# Any size will do to find the shapes of the arrays.
IMAGES = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)


def source_shapes(tensors: Tensors, naming: Naming) -> Source:
    """Shapes of the tensors that arrays are made of, by the arrays' paths."""

    def source(path: str) -> Shape | None:
        entry = naming.to_source(path)
        return tensors[entry.source].shape if entry and entry.source in tensors else None

    return source


def count_classes(network: Network, source: Source) -> int | None:
    """The number of classes that a state dict's classifier scores; None without a classifier."""
    found = source(network.classifier)
    return found[0] if found else None


def build_module(
    network: Network, output_stride: int, num_classes: int | None, source: Source
) -> nn.Module:
    """The network's module.

    Raises:
      UserError: the network has no such output stride.
    """
    try:
        return network.build(output_stride, num_classes, source)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{network.name} cannot be built: {error}") from error


def flatten(variables: Any) -> dict[str, Any]:
    """Arrays by path."""
    return flax.traverse_util.flatten_dict(variables, sep="/")


@cache
def array_shapes(module: nn.Module) -> dict[str, Shape]:
    """Shapes of the module's arrays by path."""
    shapes = jax.eval_shape(module.init, jax.random.PRNGKey(0), IMAGES)
    return {path: value.shape for path, value in flatten(shapes).items()}
