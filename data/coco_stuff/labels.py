"""The label ids of COCO-Stuff, and the 171 of them that occur as categories 0 to 170."""

import numpy as np

from ranet_data.archives import File
from ranet_jax.errors import UserError
from ranet_jax.pipeline.metadata import IGNORE_LABEL, default_color

# Ids of COCO that have a name but no segmentation: street sign, hat, shoe, eye glasses, plate,
# mirror, window, desk, door, blender, hair brush.
MISSING_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
LAST_ID = 182
IDS = tuple(i for i in range(1, LAST_ID + 1) if i not in MISSING_IDS)  # by category
# In the order of the ids: 80 things, then 91 kinds of stuff.
CLASS_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
    "banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage",
    "cardboard", "carpet", "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds",
    "counter", "cupboard", "curtain", "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble",
    "floor-other", "floor-stone", "floor-tile", "floor-wood", "flower", "fog", "food-other",
    "fruit", "furniture-other", "grass", "gravel", "ground-other", "hill", "house", "leaves",
    "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin", "net", "paper",
    "pavement", "pillow", "plant-other", "plastic", "platform", "playingfield", "railing",
    "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea", "shelf",
    "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw",
    "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable",
    "wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile",
    "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood",
)  # fmt: skip
PALETTE = tuple(default_color(number + 1) for number in range(len(CLASS_NAMES)))

# Category of each id, and of id 0, unlabeled; -1 for an id that does not occur.
_CATEGORIES = np.full(256, -1, np.int64)
_CATEGORIES[list(IDS)] = range(len(IDS))
_CATEGORIES[0] = IGNORE_LABEL


def to_categories(ids: np.ndarray, file: File, first_id: int) -> np.ndarray:
    """Categories uint8 of ids 0 (unlabeled) to 182 read from a file; unlabeled becomes 255.

    `first_id` is the id that the file stores as 0.

    Raises UserError, which names the file, on an id that does not occur in COCO-Stuff.
    """
    known = (ids >= 0) & (ids <= LAST_ID)
    categories = _CATEGORIES[np.where(known, ids, MISSING_IDS[0])]
    if (categories < 0).any():
        wrong = ids[categories < 0][0]
        written = f", written as {wrong - first_id}" if first_id else ""
        raise UserError(
            f"{file} has label id {wrong}{written}; ids are 0 (unlabeled) and 1 to "
            f"{LAST_ID} without {', '.join(map(str, MISSING_IDS))}, as in version 1.1."
        )
    return categories.astype(np.uint8)
