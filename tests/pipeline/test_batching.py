"""How images of many sizes are batched: none waits too long, none is lost."""

import numpy as np
import pytest

from ranet_jax.pipeline.batching import batch_by_size


def test_images_of_many_sizes_do_not_pile_up():
    """Half of the images are of sizes that occur once; few wait, and none is lost."""
    sizes = [(4, 4) if number % 2 else (5, 5 + number) for number in range(60)]
    pulled = []

    def examples():
        for number, size in enumerate(sizes):
            pulled.append(number)
            yield {"image": np.full((*size, 3), number, np.float32), "label": np.zeros(size, "u1")}

    given = []
    for batch in batch_by_size(examples(), 4):
        assert len(pulled) - len(given) <= 16
        given += [int(image[0, 0, 0]) for image in batch["image"][batch["mask"]]]
    assert sorted(given) == list(range(60))


@pytest.mark.parametrize(
    ("counts", "lengths"),
    [([5], [4, 4]), ([1], [1]), ([3], [4]), ([2, 1, 9], [2, 1, 4, 4, 4])],
)
def test_a_short_batch_is_filled_up_as_far_as_its_size_needs(counts, lengths):
    """To 4 if the network is compiled for 4 images of the size, and otherwise to a power of two."""
    examples = (
        {"image": np.zeros((5, width, 3), np.float32), "label": np.zeros((5, width), "u1")}
        for width, count in enumerate(counts, start=1)
        for _ in range(count)
    )
    batches = list(batch_by_size(examples, 4))
    assert sorted(len(batch["mask"]) for batch in batches) == sorted(lengths)
    assert sum(batch["mask"].sum() for batch in batches) == sum(counts)
