"""The networks whose tensors have names, and the shapes of their arrays."""

import functools

import jax
import pytest

from ranet_jax.porting.networks import NETWORKS, find_network, mmsegmentation
from ranet_jax.porting.networks import segmentation_models as smp
from ranet_jax.porting.port import IMAGES, flatten

# Networks that repeat others: of a library's many, all but those that `test_names_by_hand` looks
# at, and deeper ones.
REPEATED = {segmenter.name for segmenter in (*mmsegmentation.SEGMENTERS, *smp.SEGMENTERS)}
REPEATED |= {"hrnetv2_w18", "hrnetv2_w48", "ocrnet_hr18", "ocrnet_hr48"}
REPEATED |= {name for name in NETWORKS if "resnet101" in name}
REPEATED -= {"pspnet_r18-d8", "deeplabv3plus_r18-d8"}
REPEATED -= {"smp_unet_resnet18", "smp_fpn_mobilenetv2", "smp_pspnet_mobilenetv2"}
REPEATED -= {"smp_deeplabv3plus_resnet18"}


def marks(name):
    return pytest.mark.long if name in REPEATED else ()


def shapes(network, last=(7,)):
    """Shapes of the network's arrays with seven classes; `last` decides on a deep stem's kind."""

    def source(path):
        return (97**2,) if path.endswith("_offsets/kernel") else last

    module = network.build(network.output_stride, 7, source)
    return flatten(jax.eval_shape(module.init, jax.random.PRNGKey(0), IMAGES))


@functools.cache
def named_shapes(name, last=(7,)):
    return shapes(find_network(name), last)
