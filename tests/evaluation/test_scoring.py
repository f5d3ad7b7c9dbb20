import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import xla
from helpers.brightest import VARIABLES, brightest, examples
from helpers.fakes import DATASET, batched, counted, halves
from ranet_jax.errors import UserError
from ranet_jax.evaluation import scoring
from ranet_jax.evaluation.region_statistics import RegionCounts, count_image
from ranet_jax.evaluation.scoring import evaluate_batches, sum_over_hosts
from ranet_jax.inference import forward
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.models import Outputs

pytestmark = pytest.mark.slow

SETTINGS = InferenceSettings()


def counted_regions(images, labels):
    """Counts of the regions of `brightest`, image by image."""
    total = RegionCounts()
    for image, truth in zip(images, labels, strict=True):
        regions = halves(jnp.asarray(image)[None])
        grid = np.asarray(regions.labels[0]).reshape(image.shape[:2])
        boundary = 1 / (1 + np.exp(image[..., 0] - image[..., 1]))
        roots = np.asarray(regions.representatives.roots[0])
        total += count_image(grid, roots, boundary, truth)
    return total


@pytest.mark.parametrize("batch_size", [1, 3, 8, 12])
def test_counts_are_exact_whatever_the_batches_and_devices(batch_size):
    images, labels = examples(10)
    result = evaluate_batches(
        brightest, VARIABLES, batched(images, labels, batch_size), DATASET, SETTINGS, progress=False
    )
    fine = counted(images.argmax(-1), labels)
    coarse = counted(np.roll(images, -1, axis=2).argmax(-1), labels)
    np.testing.assert_array_equal(result.fine.confusion, fine)
    np.testing.assert_array_equal(result.coarse.confusion, coarse)
    assert result.num_images == result.regions.counts.images == 10
    assert result.regions.counts == counted_regions(images, labels)
    assert result.fine.miou == pytest.approx(
        np.mean([fine[i, i] / (fine[i].sum() + fine[:, i].sum() - fine[i, i]) for i in range(3)])
    )


def test_a_batch_uses_as_many_devices_as_divide_it():
    used = []

    def spy(variables, images, with_regions):
        used.append((len(images.sharding.device_set), len(jax.tree.leaves(variables)[0].devices())))
        return brightest(variables, images, with_regions)

    images, labels = examples(12)
    for batch_size in (12, 8, 7):
        batches = batched(images, labels, batch_size)
        evaluate_batches(spy, VARIABLES, batches, DATASET, SETTINGS, progress=False)
    assert sorted(set(used), reverse=True) == [(8, 8), (7, 7), (6, 6)]


def test_variables_left_on_all_devices_by_pmap_are_taken():
    spread = jax.pmap(
        lambda variables, x: jax.tree.map(lambda v: v * 1.0, variables),
        in_axes=(None, 0),
        out_axes=None,
    )(VARIABLES, jnp.zeros(8))
    images, labels = examples(4)
    results = [
        evaluate_batches(
            brightest, variables, batched(images, labels, 2), DATASET, SETTINGS, progress=False
        )
        for variables in (VARIABLES, spread)
    ]
    np.testing.assert_array_equal(*(result.fine.confusion for result in results))


def test_images_of_several_sizes_and_any_settings():
    batches = [
        batch
        for seed, size in enumerate([(6, 5), (4, 9)])
        for batch in batched(*examples(2, size, seed), 2)
    ]
    expected = sum(counted(batch["image"].argmax(-1), batch["label"]) for batch in batches)
    regions = [counted_regions(batch["image"], batch["label"]) for batch in batches]
    for settings in (SETTINGS, InferenceSettings(mode="slide", crop_size=(4, 4), flip=True)):
        result = evaluate_batches(brightest, VARIABLES, batches, DATASET, settings, progress=False)
        np.testing.assert_array_equal(result.fine.confusion, expected)
        assert result.regions.counts == regions[0] + regions[1]


@pytest.mark.parametrize(
    "settings, expected",
    [
        (SETTINGS, [((6, 5), True)]),
        (InferenceSettings(max_pixels=10), [((3, 2), True)]),
        (InferenceSettings(flip=True), [((6, 5), True), ((6, 5), False), ((6, 5), False)]),
        (InferenceSettings(scales=(2.0,)), [((6, 5), True), ((12, 10), False)]),
        (
            InferenceSettings(mode="slide", crop_size=(6, 5), max_pixels=10),
            [((3, 2), True), ((6, 5), False)],
        ),
    ],
    ids=["once", "smaller", "flip", "scale", "slide"],
)
def test_regions_cost_one_pass_unless_it_is_made_anyway(settings, expected):
    passes = []

    def spy(variables, images, with_regions=False):
        if not isinstance(images, jax.core.Tracer):
            passes.append((images.shape[1:3], with_regions))
        return brightest(variables, images, with_regions)

    evaluate_batches(spy, VARIABLES, batched(*examples(2), 2), DATASET, settings, progress=False)
    assert passes == expected


@pytest.mark.parametrize("settings", [SETTINGS, InferenceSettings(flip=True)])
def test_a_network_without_regions_has_no_scores_of_them(settings):
    passes = []

    def plain(variables, images, with_regions=False):
        if not isinstance(images, jax.core.Tracer):
            passes.append(with_regions)
        return brightest(variables, images)

    batches = batched(*examples(2), 2)
    result = evaluate_batches(plain, VARIABLES, batches, DATASET, settings, progress=False)
    assert result.regions is None
    assert "regions" not in result.to_json()
    assert "regions" not in result.table()
    assert passes == ([True] if settings.single_pass else [False, False])


@pytest.mark.long
@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_what_is_compiled_for_images_of_many_sizes_is_dropped(mode, monkeypatch):
    """At most four of nine sizes are kept at a time; the counts are the same."""
    monkeypatch.setattr(forward, "COMPILED_SIZES", 4)
    sizes = [(5 + seed, 6) for seed in range(9)]
    batches = [
        batch for seed, size in enumerate(sizes) for batch in batched(*examples(2, size, seed), 2)
    ]
    kept = []

    def fed():
        for batch in batches:
            yield batch
            kept.append(scoring._count._cache_size())

    settings = InferenceSettings(mode=mode, crop_size=(4, 4))
    result = evaluate_batches(brightest, VARIABLES, fed(), DATASET, settings, progress=False)
    expected = sum(counted(batch["image"].argmax(-1), batch["label"]) for batch in batches)
    np.testing.assert_array_equal(result.fine.confusion, expected)
    assert max(kept[4:]) <= 4


@pytest.mark.long
def test_every_scale_counts_among_what_is_compiled(monkeypatch):
    """At most two of five sizes are kept at a time, each at two scales and for the regions."""
    monkeypatch.setattr(forward, "COMPILED_SIZES", 6)
    kept = []

    def fed():
        for seed in range(5):
            yield from batched(*examples(2, (5 + seed, 6), seed), 2)
            kept.append(brightest._cache_size())

    jax.clear_caches()
    settings = InferenceSettings(scales=(1.0, 2.0))
    evaluate_batches(brightest, VARIABLES, fed(), DATASET, settings, progress=False)
    assert max(kept) == 6


def test_scores_are_taken_at_the_labels_resolution():
    image = np.zeros((1, 2, 2, 3), np.float32)
    image[0, :, 0, 0] = image[0, :, 1, 1] = 5
    labels = np.array([[[0, 0, 1, 1]] * 4], np.uint8)
    batch = {"image": image, "label": labels, "mask": np.array([True])}
    result = evaluate_batches(brightest, VARIABLES, [batch], DATASET, SETTINGS, progress=False)
    np.testing.assert_array_equal(result.fine.confusion, np.diag([8, 8, 0]))


def test_a_network_without_coarse_scores():
    def fine_only(variables, images, with_regions):
        return Outputs(fine=brightest(variables, images).fine)

    result = evaluate_batches(
        fine_only, VARIABLES, batched(*examples(2), 2), DATASET, SETTINGS, progress=False
    )
    assert result.coarse is None
    assert "coarse" not in result.to_json()
    assert "coarse" not in result.table()


def test_wrong_labels_and_empty_splits_are_refused():
    images, labels = examples(2)
    labels[1, 2, 3] = 7
    with pytest.raises(UserError, match="value 7"):
        evaluate_batches(brightest, VARIABLES, batched(images, labels, 2), DATASET, SETTINGS)
    with pytest.raises(UserError, match="no images"):
        evaluate_batches(brightest, VARIABLES, [], DATASET, SETTINGS, progress=False)


def test_a_progress_bar_counts_images(capsys):
    evaluate_batches(
        brightest, VARIABLES, batched(*examples(5), 2), DATASET, SETTINGS, total=5, progress=True
    )
    shown = capsys.readouterr().err
    assert "5/5" in shown
    assert "mIoU" in shown


def test_a_sum_over_one_host_keeps_counts_beyond_int32():
    counts = np.array([0, 1, 2**31 - 1, 2**31, 2**45 + 12345], np.int64)
    np.testing.assert_array_equal(sum_over_hosts(counts), counts)


HOST_SCRIPT = """
import sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize("localhost:{port}", 2, int(sys.argv[1]))
import numpy as np
from helpers.brightest import VARIABLES, brightest, examples
from helpers.fakes import DATASET, batched
from ranet_jax.evaluation.scoring import evaluate_batches, sum_over_hosts
from ranet_jax.inference.settings import InferenceSettings
host = jax.process_index()
assert sum_over_hosts(np.array([2**40 + host])).tolist() == [2**41 + 1]
images, labels = examples(5)
own = slice(0, 4) if host == 0 else slice(4, 5)
result = evaluate_batches(
    brightest, VARIABLES, batched(images[own], labels[own], 2), DATASET, InferenceSettings(),
    progress=False,
)
print(result.num_images, result.fine.confusion.tolist(), result.coarse.confusion.tolist())
print(result.regions.counts)
"""


def test_two_hosts_get_the_sum_of_their_counts():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    script = HOST_SCRIPT.format(port=port)
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests"), *filter(None, sys.path)])
    environment = os.environ | {
        "PYTHONPATH": paths,
        "XLA_FLAGS": xla.flags(1),
    }
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(index)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        finished = [host.communicate(timeout=120) for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    assert [host.returncode for host in hosts] == [0, 0], finished
    images, labels = examples(5)
    fine = counted(images.argmax(-1), labels).tolist()
    coarse = counted(np.roll(images, -1, axis=2).argmax(-1), labels).tolist()
    expected = [f"5 {fine} {coarse}", str(counted_regions(images, labels))]
    assert [out.splitlines()[-2:] for out, _ in finished] == 2 * [expected]


def test_the_first_images_are_kept_as_small_samples():
    """Samples of images with striped classes keep every second pixel of 640, normalised."""
    labels = np.zeros((3, 20, 640), np.uint8)
    labels[:, :, 320:] = 1
    labels[0, :5] = 255
    images = np.eye(3, dtype=np.float32)[np.minimum(labels, 2)]
    images[1] += np.linspace(0, 3, 640, dtype=np.float32)[:, None]
    batches = list(batched(images, labels, 2))
    result = evaluate_batches(brightest, VARIABLES, batches, DATASET, SETTINGS, progress=False)
    assert len(result.samples) == 2
    for sample, truth in zip(result.samples, labels, strict=False):
        np.testing.assert_array_equal(sample.truth, truth[::2, ::2])
        assert sample.fine.shape == (10, 320)
    first, second = result.samples
    assert (first.fine[4:, :150] == 0).all()
    assert (first.fine[4:, 170:] == 1).all()
    np.testing.assert_array_equal(first.image, images[0, ::2, ::2])
    np.testing.assert_array_equal(second.image, images[1, ::2, ::2])
    (sample,) = evaluate_batches(
        brightest, VARIABLES, batches[1:], DATASET, SETTINGS, progress=False
    ).samples  # the padding is no sample
    np.testing.assert_array_equal(sample.truth, labels[2, ::2, ::2])
