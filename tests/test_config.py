"""Configs: their way through JSON, and what does not fit them."""

import json

import pytest

from ranet_jax.config import (
    check_config,
    config_from_json,
    config_to_json,
    default_config,
    differing_fields,
    field_type,
    set_field,
)
from ranet_jax.errors import UserError


def test_everything_survives_json():
    config = default_config()
    config.data.crop_size = (65, 97)
    config.data.data_dir = "somewhere"
    config.optimizer.lr_multipliers = (("backbone/.*", 0.1), ("context/.*", 10))
    config.optimizer.clip_norm = 2.5
    config.eval.scales = (0.5, 1.0, 1.75)
    read = config_from_json(json.loads(json.dumps(config_to_json(config))))
    assert read.to_dict() == config.to_dict()
    assert read.data.crop_size == (65, 97)
    assert read.optimizer.lr_multipliers == (("backbone/.*", 0.1), ("context/.*", 10))
    assert read.optimizer.ema_decay is None


def test_fields_left_out_take_their_defaults():
    config = config_from_json({"train": {"steps": 3}})
    assert config.train.steps == 3
    config.train.steps = default_config().train.steps
    assert config.to_dict() == default_config().to_dict()


@pytest.mark.parametrize(
    "fields, name",
    [
        ({"speed": 1}, "speed"),
        ({"model": {"chanels": 8}}, "model.chanels"),
        ({"modle": {"channels": 8}}, "modle.channels"),
        ({"model": 8}, "model"),
        ({"model": {"channels": {"first": 8}}}, "model.channels.first"),
    ],
)
def test_unknown_fields_are_named(fields, name):
    with pytest.raises(UserError, match=f"no field '{name}'"):
        config_from_json(fields)


def test_a_ranet_from_before_end_points_is_refused():
    fields = config_to_json(default_config())
    assert config_from_json(fields).model.context == "ranet"
    del fields["loss"]["boundary_target"]
    with pytest.raises(UserError, match=r"Eq\. 1 left out the end points .* train it anew"):
        config_from_json(fields)
    for name, value in (("context", "none"), ("variant", "released")):
        other = fields | {"model": fields["model"] | {name: value}}
        assert config_from_json(other).model[name] == value


def test_the_former_only_order_of_the_regions_becomes_that_of_the_platform():
    fields = config_to_json(default_config())
    fields["model"]["region_path"] = "streaming"
    assert config_from_json(fields).model.region_path == "streaming"
    del fields["data"]["contrast"], fields["data"]["saturation"]
    assert config_from_json(fields).model.region_path == "auto"
    fields["model"]["region_path"] = "dense"
    assert config_from_json(fields).model.region_path == "dense"


def test_a_new_field_cannot_be_added_by_mistake():
    config = default_config()
    with pytest.raises(AttributeError, match="chanels"):
        config.model.chanels = 8


@pytest.mark.parametrize(
    "name, value, fitting",
    [
        ("optimizer.learning_rate", 1, 1.0),
        ("optimizer.clip_norm", 1, 1.0),
        ("optimizer.clip_norm", None, None),
        ("data.data_dir", None, None),
        ("data.crop_size", [3, 4], (3, 4)),
        ("data.mean", (1, 2, 3), (1.0, 2.0, 3.0)),
        ("eval.scales", (1, 2.5), (1.0, 2.5)),
        ("optimizer.lr_multipliers", [["a", 2]], (("a", 2),)),
        ("seed", 4, 4),
    ],
)
def test_values_take_the_type_of_their_field(name, value, fitting):
    config = default_config()
    set_field(config, name, value)
    section, _, field = name.rpartition(".")
    found = (config[section] if section else config)[field]
    assert found == fitting
    assert type(found) is type(fitting)


@pytest.mark.parametrize(
    "name, value",
    [
        ("train.steps", 2.5),
        ("train.steps", "3"),
        ("train.steps", True),
        ("train.steps", None),
        ("data.flip", 1),
        ("data.name", 3),
        ("optimizer.learning_rate", "fast"),
        ("optimizer.clip_norm", "2"),
        ("data.crop_size", 65),
        ("data.crop_size", (65,)),
        ("data.crop_size", (65, 65, 3)),
        ("data.crop_size", (65.0, 65.0)),
        ("eval.scales", (1.0, "2")),
    ],
)
def test_values_of_another_type_are_refused(name, value):
    config = default_config()
    kind = field_type(name).__name__
    with pytest.raises(UserError, match=f"Field '{name}' of the config takes .* {kind} ") as raised:
        set_field(config, name, value)
    assert repr(value) in str(raised.value)
    assert config.to_dict() == default_config().to_dict()


def test_differing_fields():
    left = {"seed": 0, "model": {"width": 4, "stem": "deep"}, "scales": [1.0], "old": None}
    right = {"seed": 0, "model": {"width": 8, "stem": "deep"}, "scales": [1.0, 2.0], "new": None}
    assert differing_fields(left, right) == ["model.width", "new", "old", "scales"]
    assert differing_fields(left, left) == []
    assert differing_fields({"model": {"width": 4}}, {"model": 4}) == ["model"]


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("model.kernel_size", 2, "choose an odd size"),
        ("model.num_regions", 0, "choose 1 or more"),
        ("model.width", 0, "choose 1 or more"),
        ("model.dropout", 1.0, "less than 1"),
        ("optimizer.learning_rate", -1.0, "choose a positive number"),
        ("optimizer.learning_rate", float("nan"), "choose a positive number"),
        ("data.crop_size", (0, 128), "choose 1 or more"),
        ("data.shuffle_buffer", 0, "choose 1 or more"),
        ("data.scale_range", (2.0, 0.5), "low <= high"),
        ("data.brightness", -0.1, "choose 0 to 1"),
        ("data.contrast", 1.5, "choose 0 to 1"),
        ("data.saturation", float("nan"), "choose 0 to 1"),
        ("train.checkpoint_every", 0, "choose 1 or more"),
        ("eval.batch_size", 0, "choose 1 or more"),
        ("optimizer.lr_multipliers", ("backbone", 0.1), "give pairs"),
        ("optimizer.lr_multipliers", (("backbone", -1.0),), "give pairs"),
        ("loss.class_weights", (1.0, -1.0), "choose numbers of 0 or more"),
        ("loss.class_weights", (1.0, "2"), "choose numbers of 0 or more"),
    ],
)
def test_numbers_out_of_range(name, value, sentence):
    config = default_config()
    check_config(config)
    set_field(config, name, value)
    with pytest.raises(UserError, match=f"{name} .*{sentence}"):
        check_config(config)
