"""The layers all networks share: padded convolution, synchronised BatchNorm, dropout, resizing."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ranet_jax.models.convolution import conv_general_dilated

Dtype = Any
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv(
    features: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    dtype: Dtype = jnp.float32,
    name: str | None = None,
) -> nn.Conv:
    """Square convolution, padded as in PyTorch with `padding = dilation * (k - 1) / 2`."""
    pad = dilation * (kernel_size - 1) // 2
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        strides=stride,
        kernel_dilation=dilation,
        padding=((pad, pad), (pad, pad)),
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=he_normal,
        dtype=dtype,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


def score_map(
    inputs: Float[Array, "b h w m"], num_scores: int, name: str, kernel_size: int = 1
) -> Float[Array, "b h w c"]:
    """Scores before softmax by a convolution with bias, in float32, or float64 if the inputs are.

    It is called in the `nn.compact` method of a module; the convolution becomes the submodule
    `name` of that module.
    """
    dtype = jnp.float64 if inputs.dtype == jnp.float64 else jnp.float32
    pad = (kernel_size - 1) // 2
    return nn.Conv(
        num_scores,
        (kernel_size, kernel_size),
        padding=((pad, pad), (pad, pad)),
        kernel_init=nn.initializers.normal(0.01),
        dtype=dtype,
        name=name,
    )(inputs)


def batch_norm(
    train: bool,
    *,
    dtype: Dtype = jnp.float32,
    axis_name: str | None = None,
    initial_scale: float = 1.0,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    name: str | None = None,
) -> Callable[[Array], Array]:
    """BatchNorm, by default with PyTorch's constants.

    Statistics are shared over `axis_name` in training. The pixels of a map are laid out as rows,
    because XLA sums rows several times faster on CPUs.
    """
    norm = nn.BatchNorm(
        use_running_average=not train,
        momentum=momentum,
        epsilon=epsilon,
        dtype=dtype,
        axis_name=axis_name if train else None,
        scale_init=nn.initializers.constant(initial_scale),
        name=name,
    )
    return lambda x: norm(x.reshape(-1, x.shape[-1])).reshape(x.shape)


def resize_nearest(x: Float[Array, "b h w c"], shape: tuple[int, int]) -> Float[Array, "b H W c"]:
    """Resize maps as PyTorch does: output position o is input position floor(o * in / out).

    If an axis grows by a whole factor, its elements are repeated; from size 3 to size 5 the
    elements are 0 0 1 1 2.
    """
    for axis, size in zip((1, 2), shape, strict=True):
        length = x.shape[axis]
        if size % length == 0:  # the gradient is then a sum, not a scatter
            x = jnp.repeat(x, size // length, axis=axis)
        else:
            x = jnp.take(x, np.arange(size) * length // size, axis=axis)
    return x


class ConvBN(nn.Module):
    """Convolution, BatchNorm that starts at `initial_scale`, and an activation, if not None."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False
    activation: Callable[[Array], Array] | None = nn.relu
    initial_scale: float = 1.0
    epsilon: float = 1e-5
    momentum: float = 0.9
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h2 w2 m"]:
        """Features, smaller by the stride."""
        outputs = conv(
            self.features,
            self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
            use_bias=self.use_bias,
            dtype=self.dtype,
            name="conv",
        )(inputs)
        norm = batch_norm(
            train,
            dtype=self.dtype,
            axis_name=self.axis_name,
            initial_scale=self.initial_scale,
            epsilon=self.epsilon,
            momentum=self.momentum,
            name="bn",
        )
        outputs = norm(outputs)
        return outputs if self.activation is None else self.activation(outputs)


class SeparableConvBN(nn.Module):
    """A depthwise convolution, then a 1 x 1 convolution, each with BatchNorm and ReLU.

    With `linear`, there is no BatchNorm or ReLU between the two convolutions.
    """

    features: int
    kernel_size: int = 3
    dilation: int = 1
    linear: bool = False
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h w m"]:
        """Features of the same size."""
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        channels = inputs.shape[-1]
        settings: dict[str, Any] = {
            "dilation": self.dilation,
            "groups": channels,
            "name": "depthwise",
        }
        if self.linear:
            outputs = conv(channels, self.kernel_size, dtype=self.dtype, **settings)(inputs)
        else:
            outputs = ConvBN(channels, self.kernel_size, **settings, **shared)(inputs, train)
        return ConvBN(self.features, 1, name="pointwise", **shared)(outputs, train)


class ChannelDropout(nn.Module):
    """Drop whole channels of an image (PyTorch's `Dropout2d`), keyed by the image's global index.

    The mask of an image depends on the key and on the image's place in the microbatch of all
    devices. It is therefore the same for any number of devices that share one microbatch over
    `axis_name`, but differs if a batch is split into several microbatches.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h w c"]:
        """Return the inputs; in training some channels are dropped and the rest scaled up."""
        if not train or self.rate == 0.0:
            return inputs
        batch, _, _, channels = inputs.shape
        key = self.make_rng("dropout")
        mapped = self.axis_name is not None and not self.is_initializing()
        first = jax.lax.axis_index(self.axis_name) * batch if mapped else 0
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(first + jnp.arange(batch))
        kept = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - self.rate, (1, 1, channels)))(keys)
        return jnp.where(kept, inputs / (1.0 - self.rate), jnp.zeros_like(inputs))
