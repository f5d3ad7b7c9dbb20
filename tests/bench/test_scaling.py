"""The model of the exchanges in a slice, against values worked out by hand."""

import jax
import pytest

from ranet_jax.bench.compiled import Compiled
from ranet_jax.bench.programs import Collective, Program
from ranet_jax.bench.scaling import INTERCONNECTS, Interconnect, cells, exchange_seconds, scaling
from ranet_jax.bench.targets import Target

LINKS = Interconnect(clock_hertz=1e9, link_bytes=1e9, closes=4)


def program(count, size, cycles=None):
    return Program(0, cycles, {}, {"all-reduce": Collective(count, size)}, 0)


def target(generation, sides, devices):
    return Target("slice", "tpu", tuple(jax.devices()[:devices]), 0, {}, None, 0, generation, sides)


@pytest.mark.parametrize(
    ("sides", "bytes_each_way", "hops"),
    [
        ((4,), 2, 4),  # a ring of four: both directions, and two hops out and two back
        ((2,), 1, 2),  # a line of two: one link, there and back
        ((4, 4), 4, 8),
        ((4, 2, 1), 3, 6),  # a ring and a line; the third side has no links
        ((8, 3), 3, 12),
    ],
)
def test_bytes_are_shared_by_the_sides_and_messages_go_along_each(sides, bytes_each_way, hops):
    chips = 1
    for side in sides:
        chips *= side
    moved = 1e9 * 2 * (chips - 1) / chips
    expected = moved / (bytes_each_way * 1e9) + 5 * hops * 1e-6
    assert exchange_seconds(program(5, 10**9), sides, LINKS) == pytest.approx(expected)


def test_many_small_sums_cost_their_hops_and_few_large_ones_their_bytes():
    """On 256 v5e chips: 200 sums take 32 hops each, 230 MB go through four links of 50 GB/s."""
    links = INTERCONNECTS["v5e"]
    small = exchange_seconds(program(200, 0), (16, 16), links)
    large = exchange_seconds(program(0, 230_000_000), (16, 16), links)
    assert small == pytest.approx(200 * 32e-6)
    assert large == pytest.approx(230e6 * 2 * 255 / 256 / 200e9)


def test_bytes_hardly_grow_with_the_slice():
    """They grow as (N - 1) / N: half as many for 2 chips as for very many."""
    links = INTERCONNECTS["v5p"]
    four, many = (exchange_seconds(program(0, 10**9), sides, links) for sides in [(4,), (64,)])
    assert many / four == pytest.approx((63 / 64) / (3 / 4))


def test_efficiency_is_what_computation_has_of_the_step():
    clock = INTERCONNECTS["v4"].clock_hertz
    compiled = Compiled(0.0, program=program(100, 0, cycles=round(0.0024 * clock)))
    found = scaling(compiled, target("v4", (2, 4, 1), 8))
    assert found.computation_seconds == pytest.approx(0.0024)
    assert found.exchange_seconds == pytest.approx(100 * (2 + 4) * 1e-6)
    assert found.efficiency == pytest.approx(0.8)
    assert cells(found) == {
        "computation (ms)": "2.4",
        "exchanges, modelled (ms)": "0.6",
        "efficiency, modelled": "80.0 %",
    }


@pytest.mark.parametrize("generation, sides, devices", [("v5e", (1, 1), 1), ("v6e", (2, 2), 4)])
def test_one_chip_exchanges_nothing_and_of_some_no_figures_are_known(generation, sides, devices):
    compiled = Compiled(0.0, program=program(100, 0, cycles=10**6))
    assert scaling(compiled, target(generation, sides, devices)) is None
    assert cells(None) == {}


def test_a_program_that_was_refused_has_none():
    compiled = Compiled(0.0, refusal="Used 20G of 16G")
    assert scaling(compiled, target("v5e", (2, 2), 4)) is None
    assert scaling(Compiled(0.0, program=program(1, 1)), target("v5e", (2, 2), 4)) is None


def test_clocks_follow_from_the_peaks():
    """A peak of 197 TFLOP/s with four 128 x 128 multipliers gives 1.5 GHz."""
    clocks = {name: round(links.clock_hertz / 1e9, 2) for name, links in INTERCONNECTS.items()}
    assert clocks == {"v4": 1.05, "v5e": 1.5, "v5p": 1.75}
