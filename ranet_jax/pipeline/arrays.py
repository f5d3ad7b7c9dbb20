"""A data set in one NumPy file (.npz), for machines without TensorFlow.

The file holds the description of the data set as JSON ("metadata"). For each split it holds the
bytes of the encoded images, one after the other ("SPLIT/image"), with the position where each one
ends ("SPLIT/image_ends"), and likewise the labels as PNG ("SPLIT/label", "SPLIT/label_ends").
"""

import concurrent.futures
import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict
from PIL import Image

from ranet_jax.errors import UserError, first_sentence
from ranet_jax.files import replacing
from ranet_jax.files.paths import as_path, check_bucket, local_copy
from ranet_jax.pipeline.batching import Batch, batch_by_size
from ranet_jax.pipeline.images import decode_image
from ranet_jax.pipeline.labels import check_labels
from ranet_jax.pipeline.metadata import IGNORE_LABEL, DatasetMetadata
from ranet_jax.pipeline.normalization import Normalization
from ranet_jax.pipeline.variation import Variation

Path = str | os.PathLike[str]
KINDS = ("image", "label")
# Rec. 601.
GREY = np.array([0.2989, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True)
class ArrayDataset:
    """A data set in memory, by split, with its images and labels still encoded."""

    metadata: DatasetMetadata
    splits: Mapping[str, tuple[tuple[bytes, bytes], ...]]

    @classmethod
    def load(cls, path: Path) -> "ArrayDataset":
        """Read what `write_arrays` wrote.

        Raises:
          UserError: the file is missing or damaged, or is not a packed data set.
        """
        try:
            with (
                local_copy(as_path(path)) as copy,
                copy.open("rb") as stream,
                np.load(stream, allow_pickle=False) as file,
            ):
                metadata = DatasetMetadata.from_json(json.loads(str(file["metadata"])))
                names = sorted({name.split("/")[0] for name in file.files} - {"metadata"})
                splits = {}
                for split in names:
                    images, labels = (
                        _parts(file[f"{split}/{kind}"], file[f"{split}/{kind}_ends"])
                        for kind in KINDS
                    )
                    splits[split] = tuple(zip(images, labels, strict=True))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} cannot be read as a packed data set ({first_sentence(error)}); make it"
                " by packing a prepared data set."
            ) from error
        return cls(metadata, splits)

    def examples(self, split: str) -> tuple[tuple[bytes, bytes], ...]:
        """Encoded images and labels of a split.

        Raises:
          UserError: there is no such split, or it is empty.
        """
        if not self.splits.get(split):
            raise UserError(
                f"The packed data set {self.metadata.name!r} has no split {split!r}; it has"
                f" {', '.join(self.splits)}."
            )
        return self.splits[split]

    def train_batches(self, config: ConfigDict, start_step: int = 0) -> Iterator[Batch]:
        """Endless shuffled and augmented batches, in the form of `pipeline.examples.train_batches`.

        The order is drawn from (seed, epoch), an example's augmentation from (seed, its number).
        Unlike the TensorFlow pipeline, it scales images down with antialiasing.
        """
        encoded = self.examples(config.data.train_split)
        normalise = Normalization.from_config(config.data)
        variation = Variation(config.data)

        def example(number: int) -> Batch:
            epoch, place = divmod(number, len(encoded))
            order = np.random.default_rng((config.seed, 0, epoch)).permutation(len(encoded))
            image, label = self._decode(encoded[order[place]])
            return _augment(config, variation, image, label, number, normalise)

        size = config.train.batch_size
        with concurrent.futures.ThreadPoolExecutor() as pool:

            def begin(step: int) -> list[concurrent.futures.Future[Batch]]:
                return [
                    pool.submit(example, number)
                    for number in range(step * size, step * size + size)
                ]

            step, waiting = start_step, begin(start_step)
            while True:
                parts = [future.result() for future in waiting]
                step += 1
                waiting = begin(step)
                yield {name: np.stack([part[name] for part in parts]) for name in KINDS}

    def evaluation_batches(self, config: ConfigDict, split: str) -> Iterator[Batch]:
        """Every example of a split once, in the form of `pipeline.examples.evaluation_batches`."""
        normalise = Normalization.from_config(config.data)

        def decoded() -> Iterator[Batch]:
            for encoded in self.examples(split):
                image, label = self._decode(encoded)
                pixels = normalise(np.asarray(image, np.float32))
                yield {"image": pixels, "label": np.asarray(label)}

        return batch_by_size(decoded(), config.eval.batch_size)

    def _decode(self, encoded: tuple[bytes, bytes]) -> tuple[Image.Image, Image.Image]:
        image, label = (
            Image.open(io.BytesIO(each)).convert(mode)
            for each, mode in zip(encoded, ("RGB", "L"), strict=True)
        )
        check_labels(np.asarray(label), self.metadata.num_classes, self.metadata.ignore_label)
        return image, label


def _parts(joined: UInt8[np.ndarray, " n"], ends: np.ndarray) -> list[bytes]:
    if len(ends) and int(ends[-1]) != len(joined):
        raise ValueError(f"it ends after {len(joined)} bytes instead of {ends[-1]}")
    return [part.tobytes() for part in np.split(joined, ends[:-1])] if len(ends) else []


def _augment(
    config: ConfigDict,
    variation: Variation,
    image: Image.Image,
    label: Image.Image,
    number: int,
    normalise: Normalization,
) -> Batch:
    """Scale, crop or pad, recolour and flip one example, the `number`th of the stream."""
    data, rng = config.data, np.random.default_rng((config.seed, 1, number))
    scale = rng.uniform(*data.scale_range)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)
    labels = np.asarray(label.resize(size, Image.Resampling.NEAREST))
    pixels, labels = variation.rotated(pixels, labels, config.seed, number)
    height, width = data.crop_size
    top, left = (
        rng.integers(max(side - crop, 0) + 1)
        for side, crop in zip(labels.shape, (height, width), strict=True)
    )
    pixels = pixels[top : top + height, left : left + width]
    labels = labels[top : top + height, left : left + width]
    pixels = _recolour(data, pixels, rng.uniform(-1.0, 1.0, 3))
    pixels, labels = variation.recoloured(pixels, labels, config.seed, number)
    pixels = normalise(pixels)
    margins = [(0, height - labels.shape[0]), (0, width - labels.shape[1])]
    pixels = np.pad(pixels, [*margins, (0, 0)])
    labels = np.pad(labels, margins, constant_values=IGNORE_LABEL)
    if data.flip and rng.uniform() < 0.5:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
    return {"image": np.ascontiguousarray(pixels), "label": np.ascontiguousarray(labels)}


def _recolour(
    data: ConfigDict, pixels: Float[np.ndarray, "h w 3"], draw: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "h w 3"]:
    """Change brightness, contrast and saturation by three numbers in -1..1."""
    shift, contrast, saturation = draw.astype(np.float32)
    pixels = pixels + np.float32(255.0 * data.brightness) * shift
    if data.contrast:
        grey = np.mean(pixels @ GREY)
        pixels = grey + (1 + np.float32(data.contrast) * contrast) * (pixels - grey)
    if data.saturation:
        greys = (pixels @ GREY)[..., None]
        pixels = greys + (1 + np.float32(data.saturation) * saturation) * (pixels - greys)
    return np.clip(pixels, 0.0, 255.0)


def write_arrays(
    path: Path,
    metadata: DatasetMetadata,
    splits: Mapping[str, Iterable[tuple[bytes, bytes]]],
    quality: int | None = None,
) -> None:
    """Write a data set as one file.

    Args:
      path: file whose name ends in .npz.
      metadata: description of the data set.
      splits: encoded images and labels (PNG) of each split.
      quality: store the images as JPEG of this quality (1 to 95) instead of as they are.

    Raises:
      UserError: the quality or the file's name is not allowed, or the file cannot be written.
    """
    if as_path(path).suffix != ".npz":
        raise UserError(f"{path} does not end in .npz; give it a name that does.")
    check_bucket(as_path(path))
    if quality is not None and not 1 <= quality <= 95:
        raise UserError(f"The quality of the JPEG images is {quality}; choose 1 to 95.")
    arrays: dict[str, Any] = {"metadata": np.array(json.dumps(metadata.to_json()))}
    for split, examples in splits.items():
        encoded = [(_packed(image, quality), label) for image, label in examples]
        for place, kind in enumerate(KINDS):
            parts = [example[place] for example in encoded]
            arrays[f"{split}/{kind}"] = np.frombuffer(b"".join(parts), np.uint8)
            arrays[f"{split}/{kind}_ends"] = np.cumsum(
                [len(part) for part in parts], dtype=np.int64
            )
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); choose another file."
        ) from error


def _packed(image: bytes, quality: int | None) -> bytes:
    """The image as JPEG of a quality, or as it is; a 16-bit PNG becomes one of eight bits."""
    deep = image.startswith(b"\x89PNG") and image[24] == 16
    if quality is None and not deep:
        return image
    picture = Image.fromarray(decode_image(image, "An image of the data set", upright=False))
    buffer = io.BytesIO()
    if quality is None:
        picture.save(buffer, "PNG")
    else:
        picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
