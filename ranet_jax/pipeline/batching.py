"""Batches of images of equal size, made from images of many sizes."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ranet_jax.pipeline.metadata import IGNORE_LABEL

# Arrays by name: "image", "label" and, if the batch may be padded, "mask". They are NumPy arrays on
# the host and JAX arrays on devices.
Batch = dict[str, Any]
Size = tuple[int, ...]

# Images of rare sizes wait for others of their size; fewer than this many batches of them wait.
_WAITING_BATCHES = 4


def batch_by_size(examples: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
    """Batches of examples of equal size; the largest group is yielded early when too many wait.

    A short batch is filled up with masked examples: to `batch_size` or, if no batch of its image
    size has been full before, to a power of two.

    Args:
      examples: {"image": [H, W, 3], "label": uint8 [H, W]} of any sizes.
      batch_size: number of examples in a full batch.

    Yields:
      {"image": [B, H, W, 3], "label": uint8 [B, H, W], "mask": bool [B]}.
    """
    groups: dict[Size, list[Batch]] = {}
    filled: set[Size] = set()  # sizes whose network is compiled for a full batch

    def let_go(size: Size) -> Batch:
        group = groups.pop(size)
        power_of_two = 1 << (len(group) - 1).bit_length()
        return _stack(group, batch_size if size in filled else min(power_of_two, batch_size))

    for example in examples:
        size = example["label"].shape
        groups.setdefault(size, []).append(example)
        if len(groups[size]) == batch_size:
            filled.add(size)
            yield let_go(size)
        elif sum(len(group) for group in groups.values()) >= _WAITING_BATCHES * batch_size:
            yield let_go(max(groups, key=lambda size: len(groups[size])))
    for size in list(groups):
        yield let_go(size)


def _stack(examples: list[Batch], length: int) -> Batch:
    """One batch of `length` examples, filled up with masked ones."""
    missing = [(0, length - len(examples))]
    image = np.stack([example["image"] for example in examples])
    label = np.stack([example["label"] for example in examples])
    return {
        "image": np.pad(image, missing + [(0, 0)] * 3),
        "label": np.pad(label, missing + [(0, 0)] * 2, constant_values=IGNORE_LABEL),
        "mask": np.arange(length) < len(examples),
    }
