"""The images to choose from: files, examples of a prepared data set, and uploads."""

import functools
import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from ranet_jax.errors import NotPreparedError, UserError
from ranet_jax.files.paths import Path, local_copy
from ranet_jax.inference.explorer.scene import Observer, Scene
from ranet_jax.pipeline.images import count_encoded_pixels, count_pixels, decode_image, read_image

MAX_BYTES = 64 * 2**20  # of an upload
MAX_PIXELS = 2**26  # of an image, which passes through the network as a whole
KEPT_SCENES = 4
KEPT_UPLOADS = 16
SHOWN_EXAMPLES = 1000  # of a split


class Library:
    """Images by their keys, and the scenes of those that were viewed last."""

    def __init__(self, observer: Observer, files: Sequence[Path], split: str | None = None):
        self.observer = observer
        self._sources: dict[str, Callable[[], Scene]] = {}
        self._uploads: OrderedDict[str, bytes] = OrderedDict()
        self._scenes: OrderedDict[str, Scene] = OrderedDict()
        self._lock = threading.Lock()
        self.note = ""
        repeated = Counter(file.name for file in files)
        for file in files:
            key = file.name if repeated[file.name] == 1 else str(file)
            self._sources[key] = functools.partial(self._of_file, file)
        if split is not None:
            self._add_examples(split)

    @property
    def keys(self) -> list[str]:
        """The keys to choose from, in order: files or examples, then uploads."""
        return [*self._sources, *self._uploads]

    def add(self, name: str, encoded: bytes) -> str:
        """Add the bytes of an image file and return its key, which depends on the name and bytes.

        Raises:
          UserError: the file is not an image, or it is too large.
        """
        name = name.strip()[:80] or "image"
        if len(encoded) > MAX_BYTES:
            raise UserError(
                f"{name} has more than {MAX_BYTES >> 20} MiB; name it on the command line instead."
            )
        _check_pixels(name, count_encoded_pixels(encoded, name))
        decode_image(encoded, name)
        key = f"{name} ({hashlib.sha256(encoded).hexdigest()[:8]})"
        with self._lock:
            self._uploads[key] = encoded
            self._uploads.move_to_end(key)
            while len(self._uploads) > KEPT_UPLOADS:
                self._uploads.popitem(last=False)
        return key

    def scene(self, key: str) -> Scene:
        """The scene of an image.

        Raises:
          UserError: there is no image of this key, or it cannot be read.
        """
        with self._lock:  # one image passes through the network at a time
            if key not in self._scenes:
                self._scenes[key] = self._observe(key)
            self._scenes.move_to_end(key)
            while len(self._scenes) > KEPT_SCENES:
                self._scenes.popitem(last=False)
            return self._scenes[key]

    def _observe(self, key: str) -> Scene:
        if key in self._sources:
            return self._sources[key]()
        if key in self._uploads:
            return self.observer.observe(decode_image(self._uploads[key], key))
        raise UserError(f"There is no image {key!r} here; open its file again.")

    def _of_file(self, file: Path) -> Scene:
        with local_copy(file) as local:
            _check_pixels(str(file), count_pixels(local))
            return self.observer.observe(read_image(local))

    def _add_examples(self, split: str) -> None:
        """Offer the examples of a split; if there are none, `note` says why."""
        from ranet_jax.pipeline.examples import num_examples, open_dataset, read_example

        try:
            builder = open_dataset(self.observer.model.config.data)
            count = num_examples(builder, split, 0, 1)
        except NotPreparedError as error:
            self.note = f"{error.what}; open an image of your own."
            return
        except UserError as error:
            self.note = str(error)
            return
        for number in range(min(count, SHOWN_EXAMPLES)):
            read = functools.partial(read_example, builder, split, number)
            self._sources[f"{split} {number}"] = functools.partial(self._of_example, read)

    def _of_example(self, read: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Scene:
        return self.observer.observe(*read())


def _check_pixels(name: str, pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise UserError(
            f"{name} has {pixels:,} pixels; images of up to {MAX_PIXELS:,} can be explored. Make it"
            " smaller or cut it into parts."
        )
