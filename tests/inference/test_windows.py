import itertools

from ranet_jax.inference.windows import window_starts


def test_window_starts():
    assert window_starts(10, 4, 3 / 4) == [0, 3, 6]
    assert window_starts(11, 4, 3 / 4) == [0, 3, 6, 7]
    assert window_starts(769, 769, 2 / 3) == [0]
    assert window_starts(5, 8, 2 / 3) == [0]
    assert window_starts(2048, 769, 2 / 3) == [0, 513, 1026, 1279]
    for size, crop, ratio in itertools.product(range(1, 30), (1, 4, 7), (0.1, 2 / 3, 1.0)):
        starts = window_starts(size, crop, ratio)
        covered = {pixel for start in starts for pixel in range(start, start + crop)}
        assert covered >= set(range(size))
        assert starts == sorted(set(starts))
        assert max(starts) + crop <= max(size, crop)
