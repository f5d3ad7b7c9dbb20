import dataclasses
import json

import pytest

from ranet_jax.dataset import DatasetMetadata

SKY = DatasetMetadata("weather", ("sky", "cloud"), ((0, 0, 255), (255, 255, 255)))


def test_a_data_set_survives_json():
    read = DatasetMetadata.from_json(json.loads(json.dumps(SKY.to_json())))
    assert read == SKY
    assert read.palette[1] == (255, 255, 255)
    assert hash(read) == hash(SKY)


def test_the_ignore_label_is_no_category():
    assert SKY.ignore_label == 255
    assert SKY.num_classes == 2


def test_a_data_set_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SKY.name = "climate"


def test_other_names_or_colours_make_another_data_set():
    assert dataclasses.replace(SKY, class_names=("sky", "fog")) != SKY
    assert dataclasses.replace(SKY, palette=((0, 0, 255), (0, 0, 0))) != SKY
