"""What mmsegmentation's config, whose text its checkpoints hold, says about a network."""

import math
import re

from ml_collections import ConfigDict

from ranet_jax.config import check_value
from ranet_jax.errors import UserError

_NUMBERS = r"[(\[]((?:\d+,?)+)[)\]]"
# Settings that change what the same weights compute, in ways that the networks here cannot.
REFUSED = (
    r"multi_grid=[(\[][^)\]]*[)\]]",
    r"contract_dilation=False",
    r"style='caffe'",
    r"\bdilation=(?!1\b)\d+",
    r"mode='(?:dot_product|gaussian|concatenation)'",
    r"use_scale=False",
    r"recurrence=(?!2\b)\d+",
    r"query_scales=[(\[](?!1,?[)\]])[^)\]]*[)\]]",
    r"\bout_channels=1\b",
    r"psa_type='(?:collect|distribute)'",
    r"\bcompact=True",
    r"shrink_factor=(?!2\b)\d+",
    r"normalization_factor=(?!1(?:\.0*)?[,)])[^,)]+",
    r"psa_softmax=False",
)


def adapt(config: ConfigDict, text: str) -> None:
    """Set stride, rates, corners and masks of a segmenter's config as mmsegmentation's config says.

    Args:
      config: config of the segmenter, which is changed.
      text: text of mmsegmentation's config.

    Raises:
      UserError: the text has a setting that no network here has, or an invalid size of masks.
    """
    text = re.sub(r"\s", "", text)
    for pattern in REFUSED:
        if found := re.search(pattern, text):
            raise UserError(
                f"The config in the file sets {found[0]}, which no network here supports; name a"
                " file whose config does not set it."
            )
    # The scores are those of the last head, the decode head; others have their own setting.
    head = text.partition("decode_head=")[2].partition("auxiliary_head=")[0] or text
    corners = re.findall(r"\balign_corners=(True|False)", head)
    if corners:
        config.model.align_corners = corners[-1] == "True"
    strides = _tuples("strides", text)
    if strides:
        config.model.output_stride = 4 * math.prod(strides[0])
    # The dilations of a ResNet's four stages begin with those of stride 4 and 8, which are 1 and 1.
    rates = [numbers for numbers in _tuples("dilations", text) if numbers[:2] != (1, 1)]
    if rates and config.model.aspp_rates:
        config.model.aspp_rates = rates[0][1:]
    masks = _tuples("mask_size", text)
    if masks and config.model.context == "psanet":
        check_value("model.mask_size", masks[0])
        config.model.mask_size = masks[0]


def _tuples(name: str, text: str) -> list[tuple[int, ...]]:
    return [
        tuple(int(number) for number in re.findall(r"\d+", numbers))
        for numbers in re.findall(rf"\b{name}={_NUMBERS}", text)
    ]
