"""Configs: their round trip through JSON, and the values that they refuse."""

import json
import math
import re
from typing import get_args

import pytest

from ranet_jax.config import (
    changed_fields,
    check_config,
    config_from_json,
    config_to_json,
    default_config,
    field_type,
    set_field,
)
from ranet_jax.config.declarations import FIELDS
from ranet_jax.config.field import Effect
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
    with pytest.raises(UserError, match=r"Eq\. 1 left out the end points .* train it again"):
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
        ("data.mean", (1.0, 2.0, None)),
    ],
)
def test_values_of_another_type_are_refused(name, value):
    config = default_config()
    kind = field_type(name).__name__
    with pytest.raises(UserError, match=f"Field '{name}' of the config takes .* {kind} ") as raised:
        set_field(config, name, value)
    assert repr(value) in str(raised.value)
    assert config.to_dict() == default_config().to_dict()


@pytest.mark.parametrize("effects", [("weights",), ("scores", "running"), get_args(Effect)])
def test_changed_fields_are_those_of_the_effects_asked_for(effects):
    left, right = default_config(), default_config()
    assert changed_fields(left, right, *effects) == []
    changes = {
        "seed": 1,
        "model.width": 8,
        "eval.scales": (1.0, 2.0),
        "data.data_dir": "elsewhere",
        "train.log_every": 1,
    }
    for name, value in changes.items():
        set_field(right, name, value)
    expected = {name for name in changes if FIELDS[name].effect in effects}
    assert set(changed_fields(left, right, *effects)) == expected


# ------------------------------------------------------------------------- values out of range

ODD_NUMBERS = (-1, 0, -1.0, 0.0, math.nan, math.inf, -math.inf, 1e30, 10**400, -(10**400), 10**5000)
NUMERIC = [name for name, field in FIELDS.items() if field.range is not None]


def with_number(field, number, index):
    """A value in the field's form that has this number as one entry."""
    if field.kind is not tuple:
        return number
    if field.pairs:
        return (("backbone", 0.5), ("context", number))[index:]
    entries = list(field.default) or [1, 1]
    entries[index] = number
    return tuple(entries)


def put(config, name, value):
    """Set a field as a Python file may: to anything that a ConfigDict accepts."""
    section, _, key = name.rpartition(".")
    (config[section] if section else config)[key] = value


@pytest.mark.parametrize("place", [put, set_field])
@pytest.mark.parametrize("name", NUMERIC)
def test_every_number_is_refused_by_name_or_in_range(name, place):
    field = FIELDS[name]
    count = max(len(field.default), 1) if field.kind is tuple else 1
    for number in ODD_NUMBERS:
        for index in range(count):
            config = default_config()
            try:
                place(config, name, with_number(field, number, index))
                check_config(config)
            except UserError as refusal:
                assert_one_sentence(str(refusal), name)
            except (TypeError, OverflowError, ValueError):
                assert place is put  # ConfigDict itself has refused it
            else:
                assert field.range.low <= number <= field.range.high
                assert number > field.range.low or not field.range.above
                assert number < field.range.high or not field.range.below


def assert_one_sentence(text, name):
    assert name in text
    assert text.endswith(".")
    assert ". " not in text
    assert "\n" not in text
    assert len(text) < 300


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e30, -1.0, True])
@pytest.mark.parametrize("name", NUMERIC)
def test_no_field_takes_what_is_no_number_or_beyond_all_reason(name, number):
    field = FIELDS[name]
    if number == -1.0 and field.range.low < 0:
        return
    assert field.fault(with_number(field, number, 0)) is not None


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        (
            "optimizer.momentum",
            math.nan,
            "config.optimizer.momentum is nan; choose a number from 0 up to, but not including, 1.",
        ),
        (
            "optimizer.learning_rate",
            0.0,
            "config.optimizer.learning_rate is 0.0; choose a number above 0 and up to 1000.",
        ),
        (
            "seed",
            10**400,
            "config.seed is a number of about 401 digits; choose a whole number from 0 to"
            " 4294967295.",
        ),
        (
            "model.kernel_size",
            2,
            "config.model.kernel_size is 2; choose an odd number from 1 to 99.",
        ),
        (
            "data.crop_size",
            (0, 128),
            "config.data.crop_size holds 0; choose 2 whole numbers from 1 to 32768.",
        ),
        (
            "data.scale_range",
            (2.0, 0.5),
            "config.data.scale_range is (2.0, 0.5); choose 2 numbers from 0.05 to 16, the smaller"
            " first.",
        ),
        ("data.std", (1.0, 0.0, 1.0), "config.data.std holds 0.0; choose 3 numbers from 0.001 to"),
        (
            "eval.scales",
            (),
            "config.eval.scales is (); choose one or more numbers from 0.05 to 16.",
        ),
        (
            "optimizer.lr_multipliers",
            ("backbone", 0.1),
            "config.optimizer.lr_multipliers holds 'backbone'; choose pairs of a text and a number",
        ),
        (
            "optimizer.lr_multipliers",
            (("backbone", -1.0),),
            "config.optimizer.lr_multipliers holds ('backbone', -1.0); choose pairs of a text and",
        ),
        (
            "loss.class_weights",
            (1.0, "2"),
            "config.loss.class_weights holds '2'; choose numbers from 0 to 1000000.",
        ),
        ("optimizer.clip_norm", 0.0, "choose a number above 0 and up to 1000000000, or None."),
        ("eval.mode", "crops", "config.eval.mode is 'crops'; choose one of 'whole', 'slide'."),
    ],
)
def test_what_a_refusal_says(name, value, sentence):
    config = default_config()
    set_field(config, name, value)
    with pytest.raises(UserError, match=re.escape(sentence)):
        check_config(config)


@pytest.mark.parametrize(
    "name, value",
    [
        ("optimizer.lr_multipliers", (("backbone", 0), ("context", 10.0))),
        ("loss.class_weights", (0, 1.5)),
        ("data.scale_range", (1.0, 1.0)),
        ("optimizer.ema_decay", 0.999),
        ("optimizer.clip_norm", None),
        ("eval.stride_ratio", 1.0),
        ("seed", 2**32 - 1),
        ("model.aspp_rates", (12, 24, 36)),
    ],
)
def test_values_at_the_edges_are_taken(name, value):
    config = default_config()
    set_field(config, name, value)
    check_config(config)


def test_a_tuple_of_another_length_is_refused_whoever_set_it():
    config = default_config()
    config.data.crop_size = (65,)
    with pytest.raises(UserError, match=r"data\.crop_size is \(65,\); choose 2 whole numbers"):
        check_config(config)
