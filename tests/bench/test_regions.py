"""Counts of the construction against brute force, and the command on a small map."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ranet_jax.bench import regions
from ranet_jax.bench.measure import Measurement
from ranet_jax.cli import main
from ranet_jax.ops import streaming
from ranet_jax.ops.blocks import sort_into_blocks

pytestmark = pytest.mark.slow


def all_pairs(height, width):
    """Distances (rows, columns) of all unordered pairs of pixels."""
    y, x = np.divmod(np.arange(height * width), width)
    first, second = np.triu_indices(height * width, k=1)
    return np.abs(y[second] - y[first]), np.abs(x[second] - x[first])


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 2), (9, 9), (5, 12)])
def test_pairs_and_samples_equal_brute_force(shape):
    dy, dx = all_pairs(*shape)
    assert regions.pair_count(*shape) == len(dy)
    assert regions.sample_count(*shape) == (np.maximum(dy, dx) + 1).sum()
    pairs, samples = regions.streaming_counts(*shape)
    assert pairs >= regions.pair_count(*shape)
    assert samples >= regions.sample_count(*shape)


def test_counts_of_the_paper_size():
    """44 million pairs and 2 billion samples, about doubled by the padding of windows."""
    assert regions.pair_count(97, 97) == 9409 * 9408 // 2
    pairs, samples = regions.streaming_counts(97, 97)
    assert pairs < 1.8 * regions.pair_count(97, 97)
    assert samples < 2.1 * regions.sample_count(97, 97)


def test_flops_grow_by_what_each_category_takes():
    pairs, _ = regions.streaming_counts(9, 9)
    by_category = regions.region_flops(9, 9, 5) - regions.region_flops(9, 9, 4)
    assert by_category == 2 * regions.CATEGORY_FLOPS * pairs
    dense = regions.region_flops(9, 9, 5, "dense") - regions.region_flops(9, 9, 4, "dense")
    assert dense == regions.CATEGORY_FLOPS * 81**2
    assert regions.region_flops(9, 9, 4, backward=True) > regions.region_flops(9, 9, 4)


def test_interaction_flops_are_those_of_its_blocks():
    """About one GFLOP at 97 x 97, against twenty for a product over all regions."""
    blocks = sort_into_blocks(jnp.zeros(9409, jnp.int32), jnp.arange(64, dtype=jnp.int32), 64)
    rows = np.prod(blocks.pixels.shape)
    expected = 2 * (4 * rows * 8 * 512) + 2 * (2 * 512 * 512 * 512)
    assert regions.interaction_flops(9409) == expected < 1.5e9
    assert regions.interaction_flops(9409, backward=True) < 4.5e9


@pytest.mark.long
def test_the_command_measures_both_paths(tmp_path, monkeypatch, capsys):
    """Functions that are otherwise compiled and timed are only traced here."""

    def trace(function, *arguments, repeats, memory_limit):
        assert repeats == 1
        jax.eval_shape(function, *arguments)
        return Measurement(1.0, 2.0, 3_000_000, None)

    monkeypatch.setattr(regions, "compile_and_measure", trace)
    path = tmp_path / "regions.json"
    sizes = ["--size", "5", "6", "--num-classes", "3", "--repeats", "1", "--scene", "uniform"]
    assert main(["bench", "regions", *sizes, "--output", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "3 categories, forward: dense takes 1 times the memory and 1.0 times" in printed
    assert "435 pairs of pixels" in printed and "one image (uniform)" in printed
    results = json.loads(path.read_text())
    assert results["scene"] == "uniform"
    costs = results["costs"]
    assert [(c["part"], c["path"], c["backward"]) for c in costs] == [
        ("construction", "streaming", False),
        ("construction", "streaming", True),
        ("construction", "dense", False),
        ("construction", "dense", True),
        ("interaction", "blocks", False),
        ("interaction", "blocks", True),
        ("both", "streaming", True),
    ]
    assert {cost["measured"]["temp_bytes"] for cost in costs} == {3_000_000}


def test_cells_and_their_edges_are_regions_and_a_uniform_map_is_one():
    """Four cells of 9 x 9 pixels, and 76 single pixels on the grid lines between them."""
    for scene, count in (("cells", 4 + 76), ("uniform", 1)):
        labels, score = streaming.region_map(*regions.SCENES[scene]((20, 20), 3), 0.8)
        assert len(set(np.asarray(labels).tolist())) == count
        assert np.asarray(score).max() > 0.9


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", "0", "5"], "The height is 0; choose 1 or more."),
        (["--num-classes", "0"], "The number of categories is 0; choose 1 or more."),
        (
            ["--num-classes", "3", "99999"],
            "The number of categories is 99999; choose 32768 or less.",
        ),
        (["--repeats", "0"], "The number of runs is 0; choose 1 or more."),
        (["--output", "missing/regions.json"], "Directory missing for the results is missing"),
    ],
)
def test_bad_numbers_end_in_a_sentence(arguments, sentence, capsys):
    assert main(["bench", "regions", *arguments]) == 1
    assert sentence in capsys.readouterr().err
