"""`ranet bench heads`: what context blocks add to a network, as in Table 3 of the paper."""

import dataclasses
import functools
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ranet_jax.bench.flops import count_flops
from ranet_jax.bench.measure import Measurement, compile_and_measure
from ranet_jax.bench.regions import region_flops
from ranet_jax.display.tables import table
from ranet_jax.errors import check_counts
from ranet_jax.models.context.asymmetric import AsymmetricContext
from ranet_jax.models.context.ccnet import CCContext
from ranet_jax.models.context.danet import DAContext
from ranet_jax.models.context.non_local import NonLocalContext
from ranet_jax.models.context.psanet import PSAContext
from ranet_jax.models.context.ranet import RANetContext
from ranet_jax.models.context.released import ReleasedContext

CHANNELS = 512
# Table 3 of the paper at [1, 97, 97, 512]: FLOPS (G), parameters (M), memory (MB).
PUBLISHED = {
    "Asymmetric non-local": (163, 13, 634),
    "CCNet": (198, 18, 730),
    "DANet": (264, 23, 2611),
    "PSANet": (372, 50, 3124),
    "RANet": (212, 21, 1893),
}

Features = dict[str, jax.ShapeDtypeStruct]


@dataclasses.dataclass(frozen=True)
class Head:
    """A context block, the features it reads, and which of its convolutions is left out, if any.

    `reduction` names the one 3 x 3 convolution that reduces a stage of the backbone to the block's
    channels; the block is measured on the output of that convolution. Blocks that reduce a stage
    twice keep both convolutions. `extra_flops` are element-wise FLOPs, which `count_flops` leaves
    out.
    """

    name: str
    module: nn.Module
    features: Features
    reduction: str | None = None
    extra_flops: int = 0


@dataclasses.dataclass(frozen=True)
class HeadCounts:
    """What a head adds by formula, in the forward pass."""

    convolution_macs: int
    product_macs: int
    extra_flops: int
    parameters: int

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and matrix products."""
        return self.convolution_macs + self.product_macs

    @property
    def flops(self) -> int:
        """Two for each multiply-add, and the extra ones."""
        return 2 * self.macs + self.extra_flops


@dataclasses.dataclass(frozen=True)
class HeadCost:
    """What a head costs; `forward` and `backward` are compiled but not run."""

    name: str
    counts: HeadCounts
    forward: Measurement
    backward: Measurement


def table3_heads(size: tuple[int, int], num_classes: int, channels: int = CHANNELS) -> list[Head]:
    """The heads to compare on features of `size` (height, width).

    Two also read a stage of twice the channels: the released code, whose coarse scores come from
    it, and the asymmetric network, whose fusion block takes keys and values from it.

    Raises:
      UserError: a number is not from 1 to 32,768.
    """
    check_counts({"height": size[0], "width": size[1], "number of categories": num_classes})

    def stage(depth: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *size, depth), jnp.float32)

    last = {"layer4": stage(channels)}
    both = {"layer3": stage(2 * channels)} | last
    return [
        Head(
            "RANet, the paper's equations",
            RANetContext(num_classes, "layer4", channels),
            last,
            "reduce",
            extra_flops=region_flops(*size, num_classes),
        ),
        Head(
            "RANet, the released code",
            ReleasedContext(num_classes, channels),
            both,
            "feats_conv",
        ),
        Head("non-local block", NonLocalContext("layer4", channels), last, "reduce"),
        Head(
            "asymmetric non-local",
            AsymmetricContext("layer4", "layer3", channels),
            both,
            "reduce",
        ),
        Head("CCNet", CCContext("layer4", channels), last, "reduce"),
        Head("DANet", DAContext("layer4", channels), last),
        Head("PSANet", PSAContext("layer4", channels), last),
    ]


def count_head(head: Head) -> HeadCounts:
    """Count a head's FLOPs and parameters without its reduction, from shapes alone."""
    variables = _variables(head)
    flops = count_flops(functools.partial(_forward, head), variables, head.features)
    return HeadCounts(
        convolution_macs=flops["conv_general_dilated"] // 2,
        product_macs=flops["dot_general"] // 2,
        extra_flops=head.extra_flops,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
    )


def measure_head(head: Head) -> HeadCost:
    """Count a head and compile it without its reduction; nothing is run.

    `forward` is inference. `backward` is the gradient of the sum of all features and scores with
    respect to parameters and features, and includes the forward pass.
    """
    variables = _variables(head)

    def total(params: Any, features: Any, statistics: Any) -> jax.Array:
        outputs = _forward(head, statistics | {"params": params}, features)
        scores = (outputs.features, outputs.coarse, outputs.boundary)
        return sum((jnp.sum(x) for x in scores if x is not None), start=jnp.float32(0))

    statistics = {name: value for name, value in variables.items() if name != "params"}
    return HeadCost(
        name=head.name,
        counts=count_head(head),
        forward=compile_and_measure(functools.partial(_forward, head), variables, head.features),
        backward=compile_and_measure(
            jax.grad(total, argnums=(0, 1)), variables["params"], head.features, statistics
        ),
    )


def _variables(head: Head) -> Any:
    """Shapes of a head's variables, except those of its reduction."""

    def initialize(features: Any) -> Any:
        with _left_out(head.reduction):
            return head.module.init(jax.random.PRNGKey(0), features)

    return jax.eval_shape(initialize, head.features)


def _forward(head: Head, variables: Any, features: Any) -> Any:
    with _left_out(head.reduction):
        return head.module.apply(variables, features, train=False)


def _left_out(name: str | None) -> AbstractContextManager[None]:
    """Context in which the submodule of that name, if any, is the identity without parameters."""

    def skip(call: Callable[..., Any], arguments: tuple, keywords: dict, context: Any) -> Any:
        left_out = context.module.path == (name,) and context.method_name == "__call__"
        return arguments[0] if left_out else call(*arguments, **keywords)

    return nn.intercept_methods(skip)


def heads_report(costs: list[HeadCost], size: tuple[int, int], channels: int = CHANNELS) -> str:
    """Markdown: the heads' costs, the paper's own table, and how each column was counted."""
    columns = ("GMACs", "of convolutions", "GFLOPs", "parameters (M)")
    memory = ("forward (MB)", "forward + backward (MB)")
    measured = table(
        ("head", *columns, *memory),
        [
            (
                cost.name,
                f"{cost.counts.macs / 1e9:.1f}",
                f"{cost.counts.convolution_macs / 1e9:.1f}",
                f"{cost.counts.flops / 1e9:.1f}",
                f"{cost.counts.parameters / 1e6:.2f}",
                f"{cost.forward.temp_bytes / 1e6:.1f}",
                f"{cost.backward.temp_bytes / 1e6:.1f}",
            )
            for cost in costs
        ],
    )
    published = table(
        ("Table 3 of the paper", "FLOPS (G)", "parameters (M)", "memory (MB)"),
        [(name, *map(str, figures)) for name, figures in PUBLISHED.items()],
    )
    return "\n\n".join([measured, published, _notes((1, *size, channels))])


def _notes(shape: tuple[int, ...]) -> str:
    """How each column was counted, in lines of 100 characters."""
    opening = (
        f"Each head is counted on features of {list(shape)}, without the 3x3 convolution that"
        " computes them from a backbone's last stage; DANet and PSANet have such a convolution in"
        " each of two branches, and both are counted. A stage of"
        f" {2 * shape[-1]} channels is also read by the released code, for its coarse scores, and"
        " by the asymmetric network, for the keys and values of its fusion block. The released"
        " code's lists of representatives are padded to the number of pixels of the image."
    )
    columns = (
        "GMACs: multiply-adds of convolutions and matrix products in the forward pass, by formula"
        " from their shapes; padding counts. The paper's FLOPS fit multiply-adds: its 21 M"
        " parameters fit nine 3x3 convolutions of 512 channels, which take 200 G at 97 x 97.",
        "GFLOPs: two for each multiply-add and, for the paper's equations, the element-wise"
        " operations of Eqs. 1-5 by formula, a logarithm as one. Other element-wise arithmetic is"
        " not counted.",
        "parameters: all trained ones; BatchNorm's running statistics are not counted.",
        "forward, forward + backward: temporary memory in 10^6 bytes that XLA plans on this"
        f" {jax.default_backend().upper()}, without running anything: for one float32 pass with"
        " BatchNorm's running statistics, and for the gradient of the sum of all its features and"
        " scores with respect to parameters and inputs. Parameters, inputs, results and, on a"
        " CPU, the scratch memory of convolutions are left out. The paper does not say what its"
        " memory includes.",
    )
    paragraphs = [textwrap.fill(opening, 100)]
    paragraphs += [textwrap.fill(f"- {text}", 100, subsequent_indent="  ") for text in columns]
    return "\n".join(paragraphs)


def heads_results(
    costs: list[HeadCost], size: tuple[int, int], num_classes: int, channels: int = CHANNELS
) -> dict[str, Any]:
    """Plain dictionary of the costs, with a description of what was measured."""
    return {
        "features": [1, *size, channels],
        "num_classes": num_classes,
        "backend": jax.default_backend(),
        "jax": jax.__version__,
        "heads": [dataclasses.asdict(cost) for cost in costs],
    }
