import dataclasses
import json

import pytest

from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import DatasetMetadata

SKY = DatasetMetadata("weather", ("sky", "cloud"), ((0, 0, 255), (255, 255, 255)))


def test_a_data_set_survives_json():
    read = DatasetMetadata.from_json(json.loads(json.dumps(SKY.to_json())))
    assert read == SKY
    assert read.palette[1] == (255, 255, 255)
    assert hash(read) == hash(SKY)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"palette": [[0, 0, 255]]}, "'weather' has 2 class names but 1 colours"),
        ({"class_names": ["sky"]}, "'weather' has 1 class names but 2 colours"),
        ({"palette": [[0, 0], [1, 1]]}, "malformed"),
        ({"palette": None}, "malformed"),
        ({"ignore_label": "none"}, "malformed"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        DatasetMetadata.from_json(SKY.to_json() | fields)


def test_the_ignore_label_is_no_category():
    assert SKY.ignore_label == 255
    assert SKY.num_classes == 2


def test_a_data_set_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SKY.name = "climate"


def test_other_names_or_colours_make_another_data_set():
    assert dataclasses.replace(SKY, class_names=("sky", "fog")) != SKY
    assert dataclasses.replace(SKY, palette=((0, 0, 255), (0, 0, 0))) != SKY
