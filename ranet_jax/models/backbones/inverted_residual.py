"""The block that the MobileNets are made of (Sandler et al., 2018; Howard et al., 2019)."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ranet_jax.models.layers import ConvBN, Dtype, conv


class SqueezeExcitation(nn.Module):
    """Scale each channel by a factor that two 1 x 1 convolutions compute from all channel means."""

    squeezed: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The scaled channels."""
        dense = partial(conv, kernel_size=1, use_bias=True, dtype=self.dtype)
        mean = jnp.mean(inputs, axis=(1, 2), keepdims=True)
        squeezed = nn.relu(dense(self.squeezed, name="fc1")(mean))
        return inputs * nn.hard_sigmoid(dense(inputs.shape[-1], name="fc2")(squeezed))


class InvertedResidual(nn.Module):
    """1 x 1 convolution to `expanded` channels, depthwise convolution, excitation, linear 1 x 1.

    The expansion is left out if it would keep the number of channels, and the excitation if
    `squeezed` is 0. A block that keeps the shape adds its inputs.
    """

    features: int
    expanded: int
    activation: Callable[[Array], Array]
    kernel_size: int = 3
    squeezed: int = 0
    stride: int = 1
    dilation: int = 1
    epsilon: float = 1e-5
    momentum: float = 0.9
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h2 w2 m"]:
        """Features of the block, smaller by its stride."""
        conv_bn = partial(
            ConvBN,
            epsilon=self.epsilon,
            momentum=self.momentum,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        x = inputs
        if self.expanded != inputs.shape[-1]:
            x = conv_bn(self.expanded, 1, activation=self.activation, name="expand")(x, train)
        x = conv_bn(
            self.expanded,
            self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.expanded,
            activation=self.activation,
            name="depthwise",
        )(x, train)
        if self.squeezed:
            x = SqueezeExcitation(self.squeezed, self.dtype, name="excite")(x)
        x = conv_bn(self.features, 1, activation=None, name="project")(x, train)
        return x + inputs if x.shape == inputs.shape else x
