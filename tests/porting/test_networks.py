"""Names of tensors, read in both directions, for every network and config."""

import importlib.util
import pathlib

import pytest

from helpers.named_networks import marks, named_shapes, shapes
from helpers.small_models import every_block, small_config
from ranet_jax.porting.networks import NETWORKS, find_network

pytestmark = pytest.mark.slow

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("[!_]*.py"))


def assert_reads_both_ways(naming, arrays):
    sources = {}
    for path in arrays:
        there = naming.to_source(path)
        assert there is not None, (naming.name, path)
        assert there.source not in sources, (naming.name, path, sources[there.source])
        sources[there.source] = path
        back = naming.to_target(there.source, arrays.__contains__)
        assert back.target == path, (naming.name, there.source)
        assert back.transform is there.transform, (naming.name, there.source)
        assert naming.knows(there.source)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        *(pytest.param(name, (7,), marks=marks(name)) for name in NETWORKS),
        ("resnet50_v1c", (128,)),
    ],
)
def test_every_array_of_a_network_has_a_name_that_leads_back(name, last):
    arrays = named_shapes(name, last)
    assert len(arrays) > 70
    for naming in find_network(name).namings:
        assert_reads_both_ways(naming, arrays)


def load_config(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def structure(config):
    """The fields of a config that decide the arrays' names."""
    model = config.model
    return (
        *(model.backbone, model.stem, model.stages, model.context, model.variant),
        *(bool(model.aspp_rates), model.auxiliary, model.kernel_size > 1),
    )


STRUCTURES = {structure(config): config for config in map(load_config, CONFIGS)}


@pytest.mark.parametrize(
    "config",
    [pytest.param(c, marks=marks(c.model.backbone)) for c in STRUCTURES.values()],
    ids=lambda c: c.model.context,
)
def test_every_array_of_the_configs_has_a_name_that_leads_back(config):
    network = find_network(config)
    assert network.namings[-1].name == "ranet_jax"
    assert_reads_both_ways(network.namings[-1], shapes(network))


@every_block
def test_every_array_of_the_context_blocks_has_a_name_that_leads_back(block):
    network = find_network(small_config(block))
    assert_reads_both_ways(network.namings[-1], shapes(network))
