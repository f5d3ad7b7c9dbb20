"""An ONNX graph to which nodes are added one at a time, and the values that pass through it."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from jax.extend.core import JaxprEqn
from onnx import helper, numpy_helper


class NotInONNX(Exception):
    """A form of an operation that cannot be converted; the message names the form."""


@dataclass(frozen=True)
class Value:
    """An array of the program: a constant, or the result of a node.

    Attributes:
      shape: its shape in the program.
      dtype: its dtype in the program.
      stored: shape of the stored array, which NumPy's rules broadcast to `shape`.
      name: name of the result; "" for a constant.
      array: a constant's numbers, of the shape `stored`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    stored: tuple[int, ...]
    name: str = ""
    array: np.ndarray | None = None


def constant(array: Any) -> Value:
    """A value that is known while the graph is built."""
    array = np.asarray(array)
    return Value(array.shape, array.dtype, array.shape, array=array)


def broadcast(value: Value, shape: tuple[int, ...]) -> Value:
    """The value with another shape, to which its stored shape is broadcast."""
    return replace(value, shape=shape)


@dataclass
class Names:
    """What all graphs of a model share: names, and the constants of the outermost graph."""

    count: int = 0
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def new(self, kind: str) -> str:
        """A name that no other value has."""
        self.count += 1
        return f"{kind}_{self.count}"

    def initializer(self, array: np.ndarray) -> str:
        """The name of a constant; equal constants have one name."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        content = array.tobytes() + repr((array.dtype.str, array.shape)).encode()
        name = f"constant_{hashlib.sha256(content).hexdigest()[:16]}"
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name


@dataclass
class Graph:
    """Nodes in the order in which they run; a loop body's graph sees the names of outer graphs."""

    names: Names = field(default_factory=Names)
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def inner(self) -> "Graph":
        """An empty graph for the body of a loop or a branch."""
        return Graph(self.names)

    def node(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result, and return the name of the result."""
        (name,) = self.nodes_of(operation, inputs, 1, **attributes)
        return name

    def nodes_of(
        self, operation: str, inputs: Sequence[str], count: int, **attributes: Any
    ) -> list[str]:
        """Add a node with several results, and return their names."""
        outputs = [self.names.new(operation) for _ in range(count)]
        self.nodes.append(helper.make_node(operation, list(inputs), outputs, **attributes))
        return outputs

    def result(self, operation: str, inputs: Sequence[str], like: Any, **attributes: Any) -> Value:
        """Add a node whose result has the shape and dtype of `like`."""
        return self.value(self.node(operation, *inputs, **attributes), like)

    def value(self, name: str, like: Any) -> Value:
        """The result of a node, of the shape and dtype of `like`."""
        shape = tuple(like.shape)
        return Value(shape, np.dtype(like.dtype), shape, name)

    def stored(self, value: Value) -> str:
        """The name of a value as it is stored."""
        if value.array is not None:
            return self.names.initializer(value.array)
        return value.name

    def full(self, value: Value) -> str:
        """The name of a value in its own shape."""
        name = self.stored(value)
        if value.stored == value.shape:
            return name
        return self.node("Expand", name, self.integers(value.shape))

    def integers(self, numbers: Sequence[int | np.integer]) -> str:
        """The name of a list of integers."""
        return self.names.initializer(np.array(numbers, np.int64))

    def scalar(self, number: Any, dtype: Any) -> str:
        """The name of one number."""
        return self.names.initializer(np.array(number, dtype))

    def cast(self, name: str, dtype: Any) -> str:
        """The name of the values in another dtype."""
        return self.node("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, name: str, shape: Sequence[int | np.integer]) -> str:
        """The name of the values in another shape."""
        return self.node("Reshape", name, self.integers(shape))

    def transpose(self, name: str, order: Sequence[int | np.integer]) -> str:
        """The name of the values with the axes in another order."""
        if list(order) == list(range(len(order))):
            return name
        return self.node("Transpose", name, perm=[int(axis) for axis in order])

    def proto(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[Any]
    ) -> onnx.GraphProto:
        """The graph in ONNX's form, without constants; only the outermost graph holds those."""
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs))


def shape_of(equation: JaxprEqn) -> Any:
    """Shape and dtype of the only result of an operation, or of its first one."""
    return equation.outvars[0].aval


def typed(name: str, shape: Sequence[int] | None, dtype: Any) -> onnx.ValueInfoProto:
    """An input or output of a graph."""
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )


def count(shape: Sequence[int]) -> int:
    """The number of elements of an array."""
    return math.prod(shape)
