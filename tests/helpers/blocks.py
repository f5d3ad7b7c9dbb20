"""A small data set whose pixels tell which example, place and label they come from."""

from itertools import islice

import numpy as np
import tensorflow_datasets as tfds

from ranet_jax.config import default_config

HEIGHT, WIDTH = 40, 60
CLASSES = 5
TRAIN = 7  # examples
VAL = 11


def make_example(number, height=HEIGHT, width=WIDTH):
    """Image of channels (30 + 10 x number, 50 x label, column), label of random 10 x 10 blocks."""
    rng = np.random.default_rng(number)
    blocks = rng.integers(0, CLASSES, ((height + 9) // 10, (width + 9) // 10), dtype=np.uint8)
    label = np.repeat(np.repeat(blocks, 10, axis=0), 10, axis=1)[:height, :width]
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = 30 + 10 * number
    image[..., 1] = 50 * label
    image[..., 2] = np.arange(width)
    return image, label


def val_example(number):
    return make_example(number, *((20, 30), (20, 30), (16, 8))[number % 3])


class Blocks(tfds.core.GeneratorBasedBuilder):
    """Train examples of one size, val examples of two."""

    VERSION = tfds.core.Version("9.0.0")
    CLASS_NAMES = tuple("abcde")
    METADATA = tfds.core.MetadataDict(
        class_names=CLASS_NAMES, palette=[(i, i, i) for i in range(CLASSES)], ignore_label=255
    )

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Image(shape=(None, None, 1)),
            "name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            metadata=self.METADATA,
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(make_example, TRAIN),
            "val": self._generate_examples(val_example, VAL),
        }

    def _generate_examples(self, make, count):
        for number in range(count):
            image, label = make(number)
            yield str(number), {"image": image, "label": label[..., None], "name": str(number)}


def whole_images(data_dir):
    """Config that reads whole images of the data set, neither augmented nor normalised."""
    config = default_config()
    config.data.update(
        name="blocks",
        data_dir=str(data_dir),
        crop_size=(HEIGHT, WIDTH),
        scale_range=(1.0, 1.0),
        flip=False,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        shuffle_buffer=4,
    )
    config.train.batch_size = 3
    config.eval.batch_size = 3
    return config


def take(iterator, count):
    return list(islice(iterator, count))
