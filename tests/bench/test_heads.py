"""The cost that each head of Table 3 adds, against convolutions and products counted by hand."""

import json
import re

import jax
import jax.numpy as jnp
import pytest

from ranet_jax.bench import heads
from ranet_jax.bench.measure import Measurement
from ranet_jax.cli import main
from ranet_jax.errors import UserError

pytestmark = pytest.mark.slow

SIZE, CLASSES, CHANNELS = (3, 5), 4, 6
PIXELS = 15
SLOTS, PER_REGION = 64, 8  # Q and K of the paper
SCORES = CHANNELS * (CLASSES + 2)
NORM = 2 * CHANNELS


def convolution(inputs, outputs=CHANNELS):
    return 9 * inputs * outputs


@pytest.fixture(scope="module")
def compared():
    return heads.table3_heads(SIZE, CLASSES, CHANNELS)


def test_features_are_those_of_the_paper():
    paper, released, non_local, *_ = heads.table3_heads((97, 97), 19)
    one = {"layer4": jax.ShapeDtypeStruct((1, 97, 97, 512), jnp.float32)}
    assert paper.features == non_local.features == one
    more = {"layer3": jax.ShapeDtypeStruct((1, 97, 97, 1024), jnp.float32)}
    assert released.features == more | one


def test_the_papers_block(compared):
    counts = heads.count_head(compared[0])
    project, fuse = CHANNELS**2, convolution(2 * CHANNELS)
    kernel = 1  # W^g of 1 x 1
    bias = CLASSES + 2
    assert counts.parameters == SCORES + bias + kernel + project + NORM + fuse + NORM
    assert counts.convolution_macs == PIXELS * (SCORES + project + fuse)


def test_the_released_block(compared):
    counts = heads.count_head(compared[1])
    dsn, final = convolution(2 * CHANNELS), convolution(2 * CHANNELS)
    kernels = SCORES + dsn + 5 * convolution(CHANNELS) + final
    bias = CHANNELS + CLASSES + 2
    assert counts.parameters == kernels + bias + 7 * NORM
    assert counts.convolution_macs == PIXELS * kernels
    assert counts.product_macs == 3 * 2 * PIXELS**2 * CHANNELS  # logits and sums, three times
    assert counts.flops == 2 * (counts.convolution_macs + counts.product_macs)


def test_the_released_block_has_the_papers_21_million_parameters():
    released = heads.table3_heads((3, 5), 19)[1]
    assert round(heads.count_head(released).parameters / 1e6) == heads.PUBLISHED["RANet"][1]


def test_the_non_local_block(compared):
    cost = heads.measure_head(compared[2])
    counts = cost.counts
    kernels = 4 * CHANNELS * (CHANNELS // 2) + convolution(2 * CHANNELS)
    assert counts.parameters == kernels + 2 * NORM
    assert counts.convolution_macs == PIXELS * kernels
    assert counts.product_macs == 2 * PIXELS**2 * (CHANNELS // 2)
    assert cost.forward.run_seconds is cost.backward.run_seconds is None
    assert cost.forward.temp_bytes >= 4 * PIXELS**2  # one table of all pairs
    assert cost.backward.temp_bytes > cost.forward.temp_bytes
    # XLA leaves out the zero padding and counts element-wise operations.
    assert counts.flops / 2 < cost.forward.xla_flops < 2 * counts.flops
    assert cost.backward.xla_flops > 2 * cost.forward.xla_flops


def test_extra_flops_are_no_multiply_adds(compared):
    counts = heads.HeadCounts(convolution_macs=3, product_macs=4, extra_flops=5, parameters=6)
    assert (counts.macs, counts.flops) == (7, 19)


@pytest.mark.parametrize(
    "size, classes, sentence",
    [
        ((0, 5), 4, "The height is 0; choose 1 or more."),
        ((3, -2), 4, "The width is -2; choose 1 or more."),
        ((3, 5), 0, "The number of categories is 0; choose 1 or more."),
    ],
)
def test_numbers_out_of_range(size, classes, sentence):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        heads.table3_heads(size, classes)


def test_the_rivals_parameters():
    """Layer by layer at 512 channels; a quarter of them is 128, an eighth 64."""
    wide, square, norm = 9 * 512 * 512, 512 * 512, 2 * 512
    qkv = 2 * (512 * 64 + 64) + square + 512
    half = 512 * 256
    expected = {
        "asymmetric non-local": sum(
            [
                (half + 512) + 2 * (2 * half + 256) + 256 + (half + 512) + 2 * square + norm,
                (half + 512) + (half + 256) + (half + 512) + 2 * square + norm,
            ]
        ),
        "CCNet": qkv + 1 + (wide + norm) + (2 * wide + norm),
        "DANet": qkv + 2 + 4 * (wide + norm),
        "PSANet": 4 * (square + norm) + 2 * 512 * 97**2 + (2 * square + norm) + (2 * wide + norm),
    }
    compared = {head.name: head for head in heads.table3_heads((97, 97), 19)[3:]}
    found = {name: heads.count_head(head).parameters for name, head in compared.items()}
    assert found == expected


# ------------------------------------------------------------------------------- command line


@pytest.fixture
def counted_alone(monkeypatch):
    """Count the heads without compiling them, which takes long."""

    def measure(head):
        compiled = Measurement(1.5, None, 12_345_678, None)
        return heads.HeadCost(head.name, heads.count_head(head), compiled, compiled)

    monkeypatch.setattr(heads, "measure_head", measure)


def test_command(counted_alone, tmp_path, capsys):
    output = tmp_path / "heads.json"
    arguments = ["--size", "3", "5", "--num-classes", "4", "--output", str(output)]
    assert main(["bench", "heads", *arguments]) == 0
    text = capsys.readouterr().out
    measured, published, notes = text.split("\n\n")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in measured.splitlines()]
    rows = {first: dict(zip(cells[0][1:], others, strict=True)) for first, *others in cells[2:]}
    assert len(rows) == 7
    results = json.loads(output.read_text())
    assert results["features"] == [1, 3, 5, 512]
    for head in results["heads"]:
        row, counts = rows[head["name"]], head["counts"]
        assert float(row["parameters (M)"]) == pytest.approx(counts["parameters"] / 1e6, abs=0.005)
        macs = counts["convolution_macs"] + counts["product_macs"]
        assert float(row["GMACs"]) == pytest.approx(macs / 1e9, abs=0.05)
        assert row["forward (MB)"] == row["forward + backward (MB)"] == "12.3"
    assert re.search(r"\| RANet +\| +212 \| +21 \| +1893 \|", published)
    assert "features of [1, 3, 5, 512]" in notes
    assert max(map(len, notes.splitlines())) <= 100
    for column in ("GMACs", "GFLOPs", "parameters", "forward, forward + backward"):
        assert f"\n- {column}: " in notes


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["--size", "0", "5"], "The height is 0"),
        (["--num-classes", "0"], "The number of categories is 0"),
        (["--output", "heads"], "a name that ends in .json"),
        (["--channels", "8"], "'--channels' is not an option"),
    ],
)
def test_command_refuses(arguments, part, capsys):
    assert main(["bench", "heads", *arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert part in line
