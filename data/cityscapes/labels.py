"""The numbers of Cityscapes: ids 0 to 33 in its files, of which nineteen are evaluated.

A train id is the number of an evaluated category here and in the field, 0 to 18 in the order of
`CLASSES`. The benchmark's server wants ids.
"""

import numpy as np
from jaxtyping import UInt8

from ranet_jax.dataset import IGNORE_LABEL

NUM_IDS = 34
# By name of a category: its id and its colour.
CLASSES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
_IDS = np.array([number for number, _ in CLASSES.values()], np.uint8)
_TRAIN_IDS = np.full(NUM_IDS, IGNORE_LABEL, np.uint8)
_TRAIN_IDS[_IDS] = np.arange(len(_IDS))


def to_train_ids(ids: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Train ids of ids, the ignore label for those that are not evaluated.

    Raises:
      IndexError: a number is no id.
    """
    return _TRAIN_IDS[ids]


def to_ids(train_ids: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Ids of train ids.

    Raises:
      IndexError: a number is no train id.
    """
    return _IDS[train_ids]
