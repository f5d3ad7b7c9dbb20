"""A new block is one file and one line: it trains, predicts, and ports its weights both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import toy_block
from helpers.training import DATASET, SIZE, eval_batches, tiny_config, train_batches
from ranet_jax.inference.model import load
from ranet_jax.models import build_model
from ranet_jax.models.context import BLOCKS
from ranet_jax.porting import port_state_dict
from ranet_jax.porting.coverage import to_tensors
from ranet_jax.porting.networks import find_network
from ranet_jax.porting.port import flatten
from ranet_jax.training.loop import train


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr("ranet_jax.models.context.BLOCKS", [*BLOCKS, toy_block.BLOCK])
    config = tiny_config(steps=2)
    config.model.context = "mean"
    return config


@pytest.mark.slow
def test_it_trains_and_predicts(config, tmp_path):
    result = train(config, tmp_path / "run", DATASET, train_batches, eval_batches)
    assert result.coarse is not None
    prediction = load(tmp_path / "run").predict(np.zeros((*SIZE, 3), np.uint8))
    assert prediction.labels.shape == prediction.coarse.shape == SIZE


@pytest.mark.slow
def test_its_weights_go_out_and_come_in_and_its_classifiers_are_found(config):
    variables = build_model(config, 2).init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)))
    arrays = {path: np.asarray(array) for path, array in flatten(variables).items()}
    state = to_tensors(arrays, find_network(config).namings[-1])
    ported = flatten(port_state_dict(state, config).variables)
    assert ported.keys() == arrays.keys()
    for path, array in arrays.items():
        np.testing.assert_array_equal(ported[path], array, err_msg=path)
    fresh = port_state_dict(state, config, num_classes=3).fresh
    assert {path.rpartition("/")[0] for path in fresh} == {
        "params/fine_logit",
        "params/context/semantic_logit",
    }
