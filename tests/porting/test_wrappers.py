"""State dicts among what training scripts save: found, chosen by name, or listed."""

import numpy as np
import pytest
import torch

from helpers.state_dict_files import VALUES, assert_same, both_pickles, refusal, tensors
from ranet_jax.errors import UserError
from ranet_jax.porting import port, read_state_dict

# What is saved beside the weights: tensors of an optimiser, of random numbers, of settings.
BESIDE = {
    "epoch": 3,
    "optimizer": {
        "state": {0: {"exp_avg": torch.ones(2), "step": torch.tensor(1.0)}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}],
    },
    "rng_state": torch.ones(9, dtype=torch.uint8),
    "random_states": {"torch": torch.ones(9, dtype=torch.uint8)},
    "hyper_parameters": {"class_weights": torch.ones(3), "lr": 0.1},
    "scaler": {"scale": torch.tensor(65536.0), "growth_factor": 2.0},
}
OTHER = {name: value + 1 for name, value in VALUES.items()}


def nested(name, value):
    for key in reversed(name.split(".")):
        value = {key: value}
    return value


@pytest.mark.parametrize(
    "name",
    [
        *("state_dict", "model", "state_dict_ema", "model_ema", "ema_state_dict", "ema", "student"),
        *("teacher", "checkpoint.model", "checkpoint.ema.module", "anything at all"),
    ],
)
@both_pickles
def test_the_one_state_dict_is_found_under_any_name(tmp_path, save, name):
    save(tmp_path / "w.pth", BESIDE | nested(name, tensors()))
    assert_same(read_state_dict(tmp_path / "w.pth"), VALUES)
    assert_same(read_state_dict(tmp_path / "w.pth", part=name), VALUES)


PAIRS = [
    ("state_dict", "state_dict_ema"),
    ("model", "model_ema"),
    ("state_dict", "ema_state_dict"),
    ("student", "teacher"),
    ("checkpoint.model", "checkpoint.ema"),
    ("model", "ema.module"),
]


@pytest.mark.parametrize("names", PAIRS)
@both_pickles
def test_several_are_listed_and_chosen_by_name(tmp_path, save, names):
    state = BESIDE | nested(names[0], tensors())
    for name, values in zip(names, (VALUES, OTHER), strict=True):
        parent, _, last = name.rpartition(".")
        place = state
        for key in parent.split(".") if parent else []:
            place = place.setdefault(key, {})
        place[last] = tensors(values)
    save(tmp_path / "w.pth", state)
    assert refusal(tmp_path / "w.pth") == (
        "FILE holds several state dicts; choose the one to take the weights from by its name:"
        f" {names[0]} (3 tensors), {names[1]} (3 tensors)."
    )
    assert_same(read_state_dict(tmp_path / "w.pth", part=names[0]), VALUES)
    assert_same(read_state_dict(tmp_path / "w.pth", part=names[1]), OTHER)


@pytest.mark.parametrize(
    ("content", "part", "text"),
    [
        ({"model": tensors()}, "ema", "no state dict 'ema'; it holds model (3 tensors)."),
        ({"model": tensors()}, "", "no state dict ''; it holds model (3 tensors)."),
        ({"model": tensors()}, "model.conv", "'model.conv'; it holds model (3 tensors)."),
        (tensors(), "model", "no state dict 'model'; it holds one that has no name."),
        ({"epoch": 3}, "model", "no state dict 'model'; it holds none."),
        ([1], "model", "no state dict 'model'; it holds none."),
        ({"model": tensors(), "epoch": 3}, "epoch", "no state dict 'epoch'; it holds model"),
    ],
)
def test_a_name_that_none_has(tmp_path, content, part, text):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        read_state_dict(tmp_path / "w.pth", part=part)
    assert text in str(caught.value)


def test_what_is_set_aside_can_be_named(tmp_path):
    torch.save(BESIDE | {"model": tensors()}, tmp_path / "w.pth")
    found = read_state_dict(tmp_path / "w.pth", part="random_states")
    assert_same(found, {"torch": np.ones(9, np.uint8)})


def test_dictionaries_that_hold_each_other_end(tmp_path):
    """Each of thirty dictionaries holds all the others: there are 30^8 ways through them."""
    several = [{} for _ in range(30)]
    for entries in several:
        entries.update({str(number): other for number, other in enumerate(several)})
    several[7]["model"] = tensors()
    torch.save(several[0], tmp_path / "w.pth")
    assert_same(read_state_dict(tmp_path / "w.pth"), VALUES)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "model._orig_mod.", "net."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path, prefix):
    state = {f"{prefix}{name}": value for name, value in tensors().items()}
    torch.save(BESIDE | {"state_dict": state}, tmp_path / "w.pth")
    assert_same(read_state_dict(tmp_path / "w.pth"), VALUES)


@pytest.mark.slow
def test_a_network_is_ported_from_the_chosen_one(tmp_path, resnet18):
    state = {name: torch.from_numpy(np.array(value)) for name, value in resnet18.items()}
    average = {name: value + 1 for name, value in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": average}, tmp_path / "w.pth")
    _, variables = port(tmp_path / "w.pth", "resnet18", part="state_dict_ema")
    np.testing.assert_array_equal(variables["params"]["fc"]["bias"], resnet18["fc.bias"] + 1)
