"""Miniature downloads: files in memory, written as folders or packed as archives."""

import io
import tarfile
import zipfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from scipy.io import savemat

from ranet_jax.config import default_config
from ranet_jax.pipeline import examples as data_input

HEIGHT, WIDTH = 16, 24


def encoded(image, kind="png"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def picture(number, kind="png", size=(WIDTH, HEIGHT)):
    """Bytes of a smooth image, a different one for each number."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return encoded(coarse.resize(size), kind)


def stripes(values, dtype=np.uint8):
    """Label [HEIGHT, WIDTH] with the values in its columns, in order and repeated."""
    row = np.resize(np.array(values, dtype), WIDTH)
    return np.repeat(row[None], HEIGHT, axis=0)


def mask(values):
    return encoded(Image.fromarray(stripes(values)))


def matrix(name, values):
    """MATLAB file with a label of that name, uint16 unless the values are fractions."""
    dtype = np.float64 if isinstance(values[0], float) else np.uint16
    buffer = io.BytesIO()
    savemat(buffer, {name: stripes(values, dtype), "captions": "-"}, do_compression=True)
    return buffer.getvalue()


def write_folder(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_archive(path, files):
    """Pack a .zip, a .tar or a .tar.gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def config_of(name, data_dir):
    config = default_config()
    config.data.update(name=name, data_dir=str(data_dir))
    return config


def opened(name, data_dir):
    return data_input.open_dataset(config_of(name, data_dir).data)


def examples(name, data_dir, split):
    """Bytes of the image and label [H, W] of each example of a prepared split, by name."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    dataset = opened(name, data_dir).as_dataset(split=split, decoders=decoders)
    return {
        example["name"].decode(): (example["image"], example["label"][..., 0])
        for example in tfds.as_numpy(dataset)
    }


def records(name, data_dir):
    """Bytes of the record files of a prepared data set, by file name."""
    return {path.name: path.read_bytes() for path in (data_dir / name).rglob("*.tfrecord*")}
