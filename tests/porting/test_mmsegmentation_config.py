"""What the text of an mmsegmentation config says about a network: its own configs, and by hand."""

import pytest

from helpers.mmsegmentation import config_text
from ranet_jax.errors import UserError
from ranet_jax.porting.networks import find_network

pytestmark = pytest.mark.slow

PLAIN = find_network("deeplabv3_r50-d8").config.model


def adapted(text, name="deeplabv3_r50-d8"):
    return find_network(name, text).config.model


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", {}),
        ("align_corners=False), dict(align_corners = False", {}),
        ("align_corners=True, f(align_corners=True)", {"align_corners": True}),
        ("decode_head=d(align_corners=False), auxiliary_head=d(align_corners=True)", {}),
        (
            "auxiliary_head=d(align_corners=False), decode_head=d(align_corners=True)",
            {"align_corners": True},
        ),
        (
            "decode_head=[d(align_corners=False), d(align_corners=True)], test_cfg=d()",
            {"align_corners": True},
        ),
        ("realign_corners=True", {}),
        ("strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)", {}),
        ("strides=[\n  1,\n  2,\n  2,\n  1,\n], dilations=(1, 1, 1, 2)", {"output_stride": 16}),
        ("dilations=(\n 1,\n 6,\n 12,\n 18,\n)", {"aspp_rates": (6, 12, 18)}),
        ("dilation=1, dilations=(1, 12, 24, 36), use_scale=True, recurrence=2", {}),
        ("query_scales=(1, ), mode='embedded_gaussian', mode='whole', out_channels=19", {}),
    ],
)
def test_settings_are_taken_over(text, changed):
    model = adapted(text)
    expected = PLAIN.copy_and_resolve_references()
    expected.update(changed)
    assert model.to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    "text",
    [
        "multi_grid=(1, 2, 4)",
        "dilation=6",
        "contract_dilation=False",
        "style='caffe'",
        "mode='dot_product'",
        "use_scale=False",
        "recurrence=3",
        "query_scales=(1, 2)",
        "out_channels=1",
        "psa_type='collect'",
        "compact=True",
        "shrink_factor=1",
        "normalization_factor=None",
        "normalization_factor=1.5",
        "psa_softmax=False",
    ],
)
def test_settings_that_no_network_here_has_are_refused(text):
    said = text.replace(" ", "").replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(UserError, match=f"config in the file sets {said}, which no"):
        adapted(f"backbone=dict(a=1, {text}, b=2)")


def test_blocks_without_rates_get_none():
    assert adapted("dilations=(1, 6, 12, 18)", "pspnet_r50-d8").aspp_rates == ()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", (97, 97)),
        ("mask_size=(\n 60,\n 45,\n), compact=False, shrink_factor=2", (60, 45)),
        ("psa_type='bi-direction', psa_softmax=True, mask_size=(66, 66)", (66, 66)),
        ("normalization_factor=1.0, x)", (97, 97)),
        ("dict(normalization_factor=1)", (97, 97)),
    ],
)
def test_masks_are_taken_over(text, size):
    assert adapted(text, "psanet_r50-d8").mask_size == size
    assert adapted(text, "pspnet_r50-d8").mask_size == (97, 97)


@pytest.mark.parametrize(
    ("path", "name", "changed"),
    [
        ("pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-769x769.py", "pspnet_r18-d8", True),
        ("ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py", "ocrnet_hr18", False),
    ],
)
def test_published_configs_say_whether_corners_are_aligned(path, name, changed):
    model, plain = adapted(config_text(path), name), find_network(name).config.model
    assert (model.align_corners, plain.align_corners) == (changed, False)
    with plain.unlocked():
        plain.align_corners = changed
    assert model.to_dict() == plain.to_dict()


@pytest.mark.parametrize("size", ["(0, 97)", "(97, 97, 97)", "(99999999999, 1)"])
def test_masks_of_no_size_are_refused(size):
    with pytest.raises(UserError, match=r"config\.model\.mask_size .*; choose 2 whole numbers"):
        adapted(f"mask_size={size}", "psanet_r50-d8")


@pytest.mark.parametrize(
    ("path", "size"),
    [("4xb4-80k_ade20k-512x512", (66, 66)), ("4xb2-40k_cityscapes-769x769", (97, 97))],
)
def test_published_configs_say_how_large_masks_are(path, size):
    text = config_text(f"psanet/psanet_r50-d8_{path}.py")
    assert adapted(text, "psanet_r50-d8").mask_size == size


@pytest.mark.parametrize(
    ("path", "name", "said"),
    [
        ("deeplabv3/deeplabv3_r101-d16-mg124_4xb2-40k_cityscapes-512x1024.py", "deeplabv3_r101-d8",
         r"multi_grid=\(1,2,4,?\)"),
        ("fcn/fcn-d6_r50-d16_4xb2-40k_cityscapes-512x1024.py", "fcn_r50-d8", "dilation=6"),
    ],
)  # fmt: skip
def test_published_configs_that_are_refused(path, name, said):
    with pytest.raises(UserError, match=f"sets {said}, which no"):
        adapted(config_text(path), name)
