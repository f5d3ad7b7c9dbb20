"""A miniature of Cityscapes in the official layout, as folders or as archives."""

import io
import zipfile

import numpy as np
from PIL import Image

NAMES = {
    "train": ("aachen_000000_000019", "bochum_000000_000313"),
    "val": ("frankfurt_000000_000294",),
    "test": ("berlin_000000_000019", "berlin_000001_000019"),
}
EXTRA = {"train_extra": ("bad-honnef_000000_000000",)}
SIZE = (16, 24)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def image(name):
    return np.random.default_rng(len(name) + int(name[-6:])).integers(
        0, 256, (*SIZE, 3), dtype=np.uint8
    )


def label_ids(name):
    """All 34 ids in train and val; in test none that is evaluated."""
    ids = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 34
    return np.where(name.startswith("berlin"), ids % 7, ids).astype(np.uint8)


def contents(splits, annotation):
    """The two archives of some splits: files by path."""
    images, labels = {}, {}
    for split, names in splits.items():
        for name in names:
            place = f"{split}/{name.split('_')[0]}/{name}"
            images[f"leftImg8bit/{place}_leftImg8bit.png"] = png(image(name))
            labels[f"{annotation}/{place}_{annotation}_labelIds.png"] = png(label_ids(name))
            labels[f"{annotation}/{place}_{annotation}_color.png"] = png(image(name))
    return images, labels


def make_source(root, zipped, extra=False):
    """Write the files, unpacked or as the archives of the download page."""
    images, labels = contents(NAMES, "gtFine")
    archives = {"leftImg8bit_trainvaltest.zip": images, "gtFine_trainvaltest.zip": labels}
    if extra:
        images, labels = contents(EXTRA, "gtCoarse")
        archives |= {"leftImg8bit_trainextra.zip": images, "gtCoarse.zip": labels}
    root.mkdir()
    for archive, files in archives.items():
        if zipped:
            with zipfile.ZipFile(root / archive, "w") as target:
                for name, data in files.items():
                    target.writestr(name, data)
        else:
            for name, data in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(data)
    return root
