"""A source of the data set `folder`, and functions that spoil its files."""

import json

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ranet_jax.config import default_config
from ranet_jax.pipeline import preparation

NAMES = ["ground", "road", "sky"]


COLORS = [[1, 2, 3], [10, 20, 30], [0, 0, 255]]


# Height and width of each image, by its place under images/.
SIZES = {
    "train/a.jpg": (24, 32),
    "train/street/b.PNG": (20, 28),
    "train/street/a.png": (24, 32),
    "train/c.webp": (17, 40),
    "val/a.png": (24, 32),
    "val/d.bmp": (18, 26),
    "val/e.jpg": (24, 32),
    "test/f.png": (9, 11),
}


def stem_of(place):
    return place.rsplit(".", 1)[0]


def make_source(root, indexed=False, classes=NAMES, sizes=SIZES):
    """Write images of smooth colours, and masks of values 0, 1, 2 and 255 in every quarter."""
    rng = np.random.default_rng(0)
    for place, (height, width) in sizes.items():
        path = root / "images" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        coarse.resize((width, height)).save(path)
        label = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
        mask = Image.fromarray(label)
        if indexed:
            palette = np.full((256, 3), 9, np.uint8)
            palette[:3] = COLORS
            mask.putpalette(palette.tobytes())
        path = root / "masks" / f"{stem_of(place)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


def examples_of(data_dir):
    """Name, image and label of each example of train."""
    builder = tfds.builder_from_directory(data_dir / "folder" / "1.0.0")
    for example in tfds.as_numpy(builder.as_dataset(split="train")):
        yield example["name"].decode(), example["image"], example["label"][..., 0]


def prepare(source):
    return preparation.prepare("folder", str(source), str(source.parent / "tfds"))


def config_of(data_dir):
    """Config that reads images as they are, neither augmented nor normalised."""
    config = default_config()
    config.data.update(name="folder", data_dir=str(data_dir), crop_size=(16, 24), flip=False)
    config.data.update(mean=(0.0,) * 3, std=(1.0,) * 3, scale_range=(1.0, 1.0))
    config.train.batch_size = 2
    config.eval.batch_size = 2
    return config


def read_pair(source, place):
    image = np.asarray(Image.open(source / "images" / place).convert("RGB"))
    return image, np.asarray(Image.open(source / "masks" / f"{stem_of(place)}.png"))


def edit(path, function):
    image = Image.open(path)
    image.load()
    function(image).save(path)


def with_value(value):
    def spoil(mask):
        label = np.array(mask)
        label[2, 3] = value
        return Image.fromarray(label)

    return spoil
