"""The declarations of the config's fields: each says what it is, and takes its own default."""

from typing import get_args

import pytest

from ranet_jax.config import default_config
from ranet_jax.config.declarations import FIELDS, check_value
from ranet_jax.config.field import Effect
from ranet_jax.errors import UserError

# The types whose values a field of each type takes, where it is not its own type alone.
TAKEN = {float: (int, float)}


def names(section, prefix=""):
    for key, value in section.items():
        if hasattr(value, "items"):
            yield from names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_field_of_the_default_is_declared():
    assert sorted(names(default_config())) == sorted(FIELDS)


@pytest.mark.parametrize("name, field", FIELDS.items(), ids=FIELDS)
def test_a_field_says_in_a_sentence_what_it_is(name, field):
    assert field.meaning[0].isupper()
    assert field.meaning.endswith(".")
    assert ". " not in field.meaning.removesuffix(".").replace("Eqs. ", "").replace("Eq. ", "")
    assert field.effect in get_args(Effect)


@pytest.mark.parametrize("name, field", FIELDS.items(), ids=FIELDS)
def test_a_field_takes_its_default_and_has_limits(name, field):
    check_value(name, field.default)
    is_number = field.kind in (int, float, tuple)
    assert (field.range is not None) == is_number
    if field.choices:
        with pytest.raises(UserError, match="choose one of"):
            check_value(name, "nothing of these")


@pytest.mark.parametrize("name, field", FIELDS.items(), ids=FIELDS)
def test_a_field_takes_no_value_of_another_type(name, field):
    for other in ({"a": 1}, object, b"text", True, 1, 0.5, "text", (), None):
        if type(other) in TAKEN.get(field.kind, (field.kind,)) and field.choices == ():
            continue
        if other is not None or field.default is not None:
            with pytest.raises(UserError, match=f"config.{name} is "):
                check_value(name, other)
