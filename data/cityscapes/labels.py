"""The label ids of Cityscapes, the 19 of them that are trained on, and conversions between both."""

from typing import NamedTuple

import numpy as np

from ranet_jax.pipeline.metadata import IGNORE_LABEL


class Label(NamedTuple):
    """Row of the table: id in the `labelIds` files, number in training (or None), RGB colour."""

    id: int
    name: str
    train_id: int | None
    color: tuple[int, int, int]


LABELS = (
    Label(0, "unlabeled", None, (0, 0, 0)),
    Label(1, "ego vehicle", None, (0, 0, 0)),
    Label(2, "rectification border", None, (0, 0, 0)),
    Label(3, "out of roi", None, (0, 0, 0)),
    Label(4, "static", None, (0, 0, 0)),
    Label(5, "dynamic", None, (111, 74, 0)),
    Label(6, "ground", None, (81, 0, 81)),
    Label(7, "road", 0, (128, 64, 128)),
    Label(8, "sidewalk", 1, (244, 35, 232)),
    Label(9, "parking", None, (250, 170, 160)),
    Label(10, "rail track", None, (230, 150, 140)),
    Label(11, "building", 2, (70, 70, 70)),
    Label(12, "wall", 3, (102, 102, 156)),
    Label(13, "fence", 4, (190, 153, 153)),
    Label(14, "guard rail", None, (180, 165, 180)),
    Label(15, "bridge", None, (150, 100, 100)),
    Label(16, "tunnel", None, (150, 120, 90)),
    Label(17, "pole", 5, (153, 153, 153)),
    Label(18, "polegroup", None, (153, 153, 153)),
    Label(19, "traffic light", 6, (250, 170, 30)),
    Label(20, "traffic sign", 7, (220, 220, 0)),
    Label(21, "vegetation", 8, (107, 142, 35)),
    Label(22, "terrain", 9, (152, 251, 152)),
    Label(23, "sky", 10, (70, 130, 180)),
    Label(24, "person", 11, (220, 20, 60)),
    Label(25, "rider", 12, (255, 0, 0)),
    Label(26, "car", 13, (0, 0, 142)),
    Label(27, "truck", 14, (0, 0, 70)),
    Label(28, "bus", 15, (0, 60, 100)),
    Label(29, "caravan", None, (0, 0, 90)),
    Label(30, "trailer", None, (0, 0, 110)),
    Label(31, "train", 16, (0, 80, 100)),
    Label(32, "motorcycle", 17, (0, 0, 230)),
    Label(33, "bicycle", 18, (119, 11, 32)),
)
# Labels with a number in training; the number is their index here.
TRAINED = tuple(label for label in LABELS if label.train_id is not None)


def _table(pairs: list[tuple[int, int]], otherwise: int) -> np.ndarray:
    """Table uint8 [256] of the pairs (from, to); all other values go to `otherwise`."""
    table = np.full(256, otherwise, np.uint8)
    for value, result in pairs:
        table[value] = result
    table.flags.writeable = False
    return table


# Both are indexed by an array of labels. TRAIN_IDS[ids] is 255 where an id is not trained on, and
# IDS[train_ids] is 0 (unlabeled) where a value is 255 or otherwise not a train id.
TRAIN_IDS = _table([(label.id, number) for number, label in enumerate(TRAINED)], IGNORE_LABEL)
IDS = _table([(number, label.id) for number, label in enumerate(TRAINED)], 0)


def to_train_ids(ids: np.ndarray) -> np.ndarray:
    """Train ids uint8 of `labelIds`, 255 for ids that are not trained on; same shape."""
    return TRAIN_IDS[ids]


def to_ids(train_ids: np.ndarray) -> np.ndarray:
    """`labelIds` uint8 of train ids, as the test server reads them; 0 for 255; same shape."""
    return IDS[train_ids]
