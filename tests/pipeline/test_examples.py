"""Batches of small data sets whose pixels tell which example, place and label they come from."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from helpers.blocks import HEIGHT, TRAIN, VAL, WIDTH, make_example, take, val_example
from ranet_jax.errors import UserError
from ranet_jax.pipeline import examples as data_input

pytestmark = pytest.mark.slow


@pytest.fixture
def builder(config):
    return data_input.open_dataset(config.data)


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key, value in batch.items():
            np.testing.assert_array_equal(value, other[key], strict=True)


def numbers_of(batches):
    """Numbers of the examples of unaugmented batches, in order."""
    red = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches])
    return [int(value) for value in (red - 30) // 10]


# ------------------------------------------------------------------------------- training


def test_train_batches_are_whole_examples_of_the_data_set(config, builder):
    for batch in take(data_input.train_batches(config, builder), 5):
        assert batch["image"].shape == (3, HEIGHT, WIDTH, 3)
        assert batch["image"].dtype == np.float32
        assert batch["label"].shape == (3, HEIGHT, WIDTH)
        assert batch["label"].dtype == np.uint8
        for position, number in enumerate(numbers_of([batch])):
            image, label = make_example(number)
            np.testing.assert_array_equal(batch["image"][position], image)
            np.testing.assert_array_equal(batch["label"][position], label)


def test_every_epoch_has_every_example_once_in_an_order_of_its_own(config, builder):
    numbers = numbers_of(take(data_input.train_batches(config, builder), 7))  # three epochs
    epochs = [numbers[start : start + TRAIN] for start in (0, TRAIN, 2 * TRAIN)]
    assert all(sorted(epoch) == list(range(TRAIN)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def augmented(config):
    config.data.update(
        crop_size=(24, 32), scale_range=(0.5, 2.0), flip=True, brightness=0.2, contrast=0.2
    )
    return config


def test_same_seed_gives_the_same_batches_and_another_seed_others(config, builder):
    augmented(config)
    first = take(data_input.train_batches(config, builder), 6)
    assert_same(first, take(data_input.train_batches(config, builder), 6))
    config.seed = 1
    other = take(data_input.train_batches(config, builder), 6)
    assert any((a["image"] != b["image"]).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("start", [1, 2, 3, 7, 9])
def test_resumed_stream_is_the_uninterrupted_one(config, builder, start):
    """Resumed within the first epoch, at the first batch across epochs, and epochs later."""
    augmented(config)
    whole = take(data_input.train_batches(config, builder), 12)
    assert_same(whole[start:], take(data_input.train_batches(config, builder, start), 12 - start))


def test_no_stream_is_tuned_whose_end_would_wait_for_it(config, builder, monkeypatch):
    iterate, tuned = tf.data.Dataset.as_numpy_iterator, []

    def noted(dataset):
        tuned.append(dataset.options().autotune.enabled)
        return iterate(dataset)

    monkeypatch.setattr(tf.data.Dataset, "as_numpy_iterator", noted)
    next(data_input.train_batches(config, builder))
    next(iter(data_input.evaluation_batches(config, builder, "val")))
    assert tuned == [False, False]


def test_one_example_is_augmented_anew_in_each_epoch(config, builder):
    augmented(config)
    config.data.train_split = "train[:1]"
    batch = next(data_input.train_batches(config, builder))
    assert len(np.unique(batch["image"], axis=0)) == 3


def test_batch_may_exceed_the_data_set(config, builder):
    config.train.batch_size = 2 * TRAIN
    batch = next(data_input.train_batches(config, builder))
    assert Counter(numbers_of([batch])) == dict.fromkeys(range(TRAIN), 2)


def test_hosts_share_batch_and_examples(config, builder):
    config.train.batch_size = 4
    seen = []
    for host in range(2):
        share = data_input.num_examples(builder, "train", host, 2)
        batches = take(data_input.train_batches(config, builder, 0, host, 2), 2 * share)
        assert {len(batch["label"]) for batch in batches} == {2}
        counts = Counter(numbers_of(batches))
        assert set(counts.values()) == {4} and len(counts) == share
        seen.append(set(counts))
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == set(range(TRAIN))


def test_host_resumes_too(config, builder):
    augmented(config)
    config.train.batch_size = 4
    whole = take(data_input.train_batches(config, builder, 0, 1, 2), 8)
    assert_same(whole[5:], take(data_input.train_batches(config, builder, 5, 1, 2), 3))


@pytest.mark.parametrize("hosts", [2, 3])
def test_a_shared_order_gives_hosts_the_batches_of_one(config, builder, hosts):
    augmented(config)
    config.train.batch_size = 6
    whole = take(data_input.train_batches(config, builder), 5)
    config.data.shared_order = True
    for start in (0, 3):
        parts = [
            take(data_input.train_batches(config, builder, start, host, hosts), 5 - start)
            for host in range(hosts)
        ]
        together = [
            {name: np.concatenate([part[name] for part in step]) for name in step[0]}
            for step in zip(*parts, strict=True)
        ]
        assert_same(together, whole[start:])


def test_batch_that_hosts_cannot_share_is_refused(config, builder):
    with pytest.raises(UserError, match="batch_size 3 cannot be shared by 2 hosts"):
        data_input.train_batches(config, builder, 0, 0, 2)


def test_hosts_without_examples_are_refused(config, builder):
    config.train.batch_size = 8
    with pytest.raises(UserError, match="fewer examples than the 8 hosts"):
        data_input.train_batches(config, builder, 0, 7, 8)


# ----------------------------------------------------------------------------- evaluation


def evaluated(config, builder, host=0, hosts=1):
    """Numbers of the examples of a host's batches, each compared with what was stored."""
    numbers = []
    for batch in data_input.evaluation_batches(config, builder, "val", host, hosts):
        assert batch["image"].dtype == np.float32 and batch["label"].dtype == np.uint8
        assert batch["mask"].dtype == bool and batch["mask"].any()
        assert len(batch["image"]) == len(batch["label"]) == len(batch["mask"]) <= 3
        assert not batch["image"][~batch["mask"]].any()
        assert (batch["label"][~batch["mask"]] == 255).all()
        images, labels = batch["image"][batch["mask"]], batch["label"][batch["mask"]]
        for image, label in zip(images, labels, strict=True):
            numbers.append(int((image[0, 0, 0] - 30) // 10))
            expected_image, expected_label = val_example(numbers[-1])
            np.testing.assert_array_equal(image, expected_image)
            np.testing.assert_array_equal(label, expected_label)
    return numbers


def test_evaluation_has_every_example_once_at_its_own_size(config, builder):
    assert sorted(evaluated(config, builder)) == list(range(VAL))


@pytest.mark.parametrize("hosts", [2, 3, 16])
def test_hosts_evaluate_disjoint_even_shares(config, builder, hosts):
    shares = [evaluated(config, builder, host, hosts) for host in range(hosts)]
    assert sorted(number for share in shares for number in share) == list(range(VAL))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == [data_input.num_examples(builder, "val", h, hosts) for h in range(hosts)]


def test_evaluation_images_are_normalised(config, builder):
    plain = next(data_input.evaluation_batches(config, builder, "val"))
    config.data.update(mean=(10.0, 20.0, 30.0), std=(4.0, 5.0, 8.0), channel_order="bgr")
    normalised = next(data_input.evaluation_batches(config, builder, "val"))
    expected = ((plain["image"].astype(np.float64) - (10, 20, 30)) / (4, 5, 8))[..., ::-1]
    mask = plain["mask"]
    np.testing.assert_allclose(normalised["image"][mask], expected[mask], rtol=1e-5, atol=1e-5)


def test_split_may_be_an_expression(config, builder):
    assert data_input.num_examples(builder, "train[:2]+val[8:]") == 5
    batches = list(data_input.evaluation_batches(config, builder, "val[:4]"))
    assert sum(batch["mask"].sum() for batch in batches) == 4


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("test", r"has no split 'test'; it has train \(7\), val \(11\)"),
        ("train[", r"has no split 'train\['"),
        ("train[:0]", r"Split 'train\[:0\]' of 'blocks' is empty"),
    ],
)
def test_unknown_or_empty_split_is_refused(config, builder, split, message):
    with pytest.raises(UserError, match=message):
        data_input.evaluation_batches(config, builder, split)
    with pytest.raises(UserError, match=message):
        data_input.num_examples(builder, split)
    config.data.train_split = split
    with pytest.raises(UserError, match=message):
        data_input.train_batches(config, builder)
