"""Convolutions, matrix products and pooling, as nodes of ONNX."""

from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from ranet_jax.inference.export.onnx_lowering.elementwise import Lowering
from ranet_jax.inference.export.onnx_lowering.graph import Graph, NotInONNX, Value, count, shape_of


def _convolution(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    images, kernel = values
    parameters, out = equation.params, shape_of(equation)
    numbers, padding = parameters["dimension_numbers"], parameters["padding"]
    if set(parameters["lhs_dilation"]) != {1} or parameters["batch_group_count"] != 1:
        raise NotInONNX("transposed convolution")
    if any(low < 0 or high < 0 for low, high in padding):
        raise NotInONNX("convolution with negative padding")
    if kernel.array is not None:
        weights = np.broadcast_to(kernel.array, kernel.shape).transpose(numbers.rhs_spec)
        kernel_name = graph.names.initializer(weights)
    else:
        kernel_name = graph.transpose(graph.full(kernel), numbers.rhs_spec)
    name = graph.node(
        "Conv",
        graph.transpose(graph.full(images), numbers.lhs_spec),
        kernel_name,
        strides=parameters["window_strides"],
        dilations=parameters["rhs_dilation"],
        pads=[low for low, _ in padding] + [high for _, high in padding],
        group=parameters["feature_group_count"],
    )
    return [graph.value(graph.transpose(name, np.argsort(numbers.out_spec).tolist()), out)]


def _dot_general(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
    left, right = values
    (left_sum, right_sum), (left_batch, right_batch) = equation.params["dimension_numbers"]
    out = shape_of(equation)
    left_free = [a for a in range(len(left.shape)) if a not in (*left_sum, *left_batch)]
    right_free = [a for a in range(len(right.shape)) if a not in (*right_sum, *right_batch)]

    def matrices(value: Value, *groups: list[int]) -> str:
        """The value with its axes in three groups, each joined into one axis."""
        name = graph.transpose(graph.full(value), [axis for group in groups for axis in group])
        return graph.reshape(name, [count([value.shape[a] for a in group]) for group in groups])

    product = graph.node(
        "MatMul",
        matrices(left, list(left_batch), left_free, list(left_sum)),
        matrices(right, list(right_batch), list(right_sum), right_free),
    )
    return [graph.value(graph.reshape(product, out.shape), out)]


def _reduce_window(operation: str) -> Lowering:
    def lower(graph: Graph, equation: JaxprEqn, values: list[Value]) -> list[Value]:
        (value,), out, parameters = values, shape_of(equation), equation.params
        window, strides, padding, dilation = (
            parameters[key]
            for key in ("window_dimensions", "window_strides", "padding", "window_dilation")
        )
        if set(parameters["base_dilation"]) != {1}:
            raise NotInONNX("pooling between elements")
        seen = [a for a, size in enumerate(window) if size > 1 or strides[a] > 1]
        others = [axis for axis in range(len(window)) if axis not in seen]
        order = [*others, *seen]
        # One channel; the axes that are not pooled form the batch.
        name = graph.transpose(graph.full(value), order)
        batch = [count([value.shape[axis] for axis in others]), 1]
        name = graph.reshape(name, [*batch, *(value.shape[axis] for axis in seen)])
        attributes: dict[str, Any] = {
            "kernel_shape": [window[axis] for axis in seen],
            "strides": [strides[axis] for axis in seen],
            "pads": [padding[a][0] for a in seen] + [padding[a][1] for a in seen],
            "dilations": [dilation[axis] for axis in seen],
        }
        if operation == "AveragePool":
            attributes["count_include_pad"] = 1
        name = graph.node(operation, name, **attributes)
        if operation == "AveragePool":  # a mean over as many elements as the window has
            name = graph.node("Mul", name, graph.scalar(count(window), value.dtype))
        name = graph.reshape(name, [out.shape[axis] for axis in order])
        return [graph.value(graph.transpose(name, np.argsort(order).tolist()), out)]

    return lower


LOWERINGS: dict[str, Lowering] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot_general,
    "reduce_window_max": _reduce_window("MaxPool"),
    "reduce_window_sum": _reduce_window("AveragePool"),
}
