"""Cityscapes builder on miniature archives in the official layout, and on their folders."""

import numpy as np
import pytest

from helpers.miniature import (
    examples,
    mask,
    opened,
    picture,
    records,
    stripes,
    write_archive,
    write_folder,
)
from ranet_data.cityscapes import cityscapes_dataset_builder, labels
from ranet_jax.errors import UserError
from ranet_jax.pipeline import examples as data_input
from ranet_jax.pipeline import preparation

IMAGES, LABELS = "leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"
EXTRA_IMAGES, EXTRA_LABELS = "leftImg8bit_trainextra.zip", "gtCoarse.zip"
# Label ids of each example, and the train ids that they become.
EXAMPLES = {
    "train/aachen/aachen_000000_000019": ((7, 8, 11, 12, 13, 17), (0, 1, 2, 3, 4, 5)),
    "train/aachen/aachen_000001_000019": ((0, 1, 2, 3, 4, 5, 6), (255,) * 7),
    "train/ulm/ulm_000000_000019": ((19, 20, 21, 22, 23, 24, 25, 26), tuple(range(6, 14))),
    "val/lindau/lindau_000000_000019": ((27, 28, 31, 32, 33), (14, 15, 16, 17, 18)),
    "val/lindau/lindau_000001_000019": ((9, 10, 14, 15, 16, 18, 29, 30), (255,) * 8),
    "test/bonn/bonn_000000_000019": ((1, 2, 3), (255, 255, 255)),
}
EXTRA = {"train_extra/erlangen/erlangen_000000_000000": ((0, 7, 26), (255, 0, 13))}


def make_files():
    """Content of each archive by the path in it, including files that are not read."""
    files = {IMAGES: {"README": b"-"}, LABELS: {}, EXTRA_IMAGES: {}, EXTRA_LABELS: {}}
    for number, (place, (ids, _)) in enumerate((EXAMPLES | EXTRA).items()):
        fine = place in EXAMPLES
        kind = "gtFine" if fine else "gtCoarse"
        images, annotations = (IMAGES, LABELS) if fine else (EXTRA_IMAGES, EXTRA_LABELS)
        files[images][f"leftImg8bit/{place}_leftImg8bit.png"] = picture(number)
        files[annotations] |= {
            f"{kind}/{place}_{kind}_labelIds.png": mask(ids),
            f"{kind}/{place}_{kind}_color.png": picture(number + 100),
            f"{kind}/{place}_{kind}_polygons.json": b"{}",
        }
    return files


def write_source(root, files, unpacked=False):
    for archive, content in files.items():
        if unpacked:
            write_folder(root, content)
        elif content:
            write_archive(root / archive, content)
    return root


def prepare(source):
    data_dir = source.parent / "tfds"
    preparation.prepare("cityscapes", str(source), str(data_dir))
    return data_dir


@pytest.fixture
def files():
    files = make_files()
    files[EXTRA_IMAGES].clear()
    files[EXTRA_LABELS].clear()
    return files


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(write_source(tmp_path_factory.mktemp("cityscapes") / "source", make_files()))


# ---------------------------------------------------------------------------------- labels


def test_table_of_labels():
    assert [label.id for label in labels.LABELS] == list(range(34))
    assert [label.train_id for label in labels.TRAINED] == list(range(19))
    by_name = {label.name: label for label in labels.LABELS}
    assert by_name["road"] == (7, "road", 0, (128, 64, 128))
    assert by_name["train"] == (31, "train", 16, (0, 80, 100))
    assert by_name["bicycle"] == (33, "bicycle", 18, (119, 11, 32))
    assert by_name["trailer"].train_id is None


def test_ids_map_to_train_ids_and_back():
    ids = np.array([[0, 7, 29], [33, 31, 11]], np.uint8)
    train_ids = labels.to_train_ids(ids)
    np.testing.assert_array_equal(train_ids, np.array([[255, 0, 255], [18, 16, 2]], np.uint8))
    np.testing.assert_array_equal(labels.to_ids(train_ids), [[0, 7, 0], [33, 31, 11]])
    assert train_ids.dtype == labels.to_ids(train_ids).dtype == np.uint8
    numbers = np.arange(19)
    np.testing.assert_array_equal(labels.to_train_ids(labels.to_ids(numbers)), numbers)


# ------------------------------------------------------------------------ what is prepared


def test_labels_become_train_ids(prepared):
    for split in ("train", "val", "test", "train_extra"):
        found = examples("cityscapes", prepared, split)
        expected = {
            place.rsplit("/", 1)[1]: train_ids
            for place, (_, train_ids) in (EXAMPLES | EXTRA).items()
            if place.startswith(f"{split}/")
        }
        assert found.keys() == expected.keys()
        for name, train_ids in expected.items():
            np.testing.assert_array_equal(found[name][1], stripes(train_ids))


def test_images_keep_their_bytes(prepared):
    found = examples("cityscapes", prepared, "train") | examples("cityscapes", prepared, "test")
    for number, place in enumerate(EXAMPLES):
        if not place.startswith("val/"):
            assert found[place.rsplit("/", 1)[1]][0] == picture(number)


def test_metadata(prepared):
    metadata = data_input.dataset_metadata(opened("cityscapes", prepared))
    assert metadata.num_classes == 19
    assert (metadata.class_names[0], metadata.class_names[18]) == ("road", "bicycle")
    assert metadata.palette[13] == (0, 0, 142)
    assert metadata.ignore_label == 255


def test_unpacked_folders_give_the_same_records(prepared, tmp_path):
    """Preparing twice gives the same records too: they do not depend on the run."""
    unpacked = prepare(write_source(tmp_path / "source", make_files(), unpacked=True))
    assert len(records("cityscapes", prepared)) == 4
    assert records("cityscapes", unpacked) == records("cityscapes", prepared)


def test_archives_go_before_folders(prepared, tmp_path):
    source = write_source(tmp_path / "source", make_files())
    write_folder(source, {"gtFine/train/aachen/a_gtFine_labelIds.png": b"cut off while unpacked"})
    assert records("cityscapes", prepare(source)) == records("cityscapes", prepared)


def test_interrupted_preparation_leaves_nothing_and_is_made_good(prepared, tmp_path, monkeypatch):
    """It is cut off within the second split, after the records of the first are written."""
    source = write_source(tmp_path / "source", make_files())
    calls = []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return labels.to_train_ids(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(cityscapes_dataset_builder, "to_train_ids", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(source)
    with pytest.raises(UserError, match="'cityscapes' is not prepared"):
        opened("cityscapes", tmp_path / "tfds")
    assert records("cityscapes", prepare(source)) == records("cityscapes", prepared)


def test_without_coarse_labels_there_is_no_split_of_them(files, tmp_path, capsys):
    data_dir = prepare(write_source(tmp_path / "source", files))
    assert set(opened("cityscapes", data_dir).info.splits) == {"train", "val", "test"}
    notes = capsys.readouterr().err
    assert "Split train has 3 images; officially it has 2975." in notes
    assert "Split test has 1 images; officially it has 1525." in notes


# ---------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("archive", [IMAGES, LABELS])
def test_missing_archive_is_named(files, tmp_path, archive):
    files[archive].clear()
    source = write_source(tmp_path / "source", files)
    folder = "leftImg8bit/train" if archive == IMAGES else "gtFine/train"
    message = (
        f"{source} has neither {archive} nor the folder {folder} unpacked from it; "
        rf"download {archive} from https://www.cityscapes-dataset.com/downloads/\.$"
    )
    with pytest.raises(UserError, match=message):
        prepare(source)


def test_half_of_the_coarse_part_is_named(tmp_path):
    for archive, other in ((EXTRA_IMAGES, EXTRA_LABELS), (EXTRA_LABELS, EXTRA_IMAGES)):
        files = make_files()
        files[archive].clear()
        source = write_source(tmp_path / other / "source", files)
        with pytest.raises(UserError, match=f"{source} has neither {archive} nor the folder"):
            prepare(source)


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize(
    ("archive", "place"),
    [
        (IMAGES, "leftImg8bit/val/lindau/lindau_000001_000019_leftImg8bit.png"),
        (LABELS, "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png"),
    ],
)
def test_missing_file_is_named(files, tmp_path, archive, place, unpacked):
    del files[archive][place]
    source = write_source(tmp_path / "source", files, unpacked)
    named = source / place if unpacked else source / archive / place
    message = rf"^{named} is missing; it is part of {archive} from https://www.cityscapes.*/\.$"
    with pytest.raises(UserError, match=message):
        prepare(source)


def test_archive_without_a_split_is_named(files, tmp_path):
    files[LABELS] = {name: data for name, data in files[LABELS].items() if "/test/" not in name}
    source = write_source(tmp_path / "source", files)
    message = rf"{source / LABELS}/gtFine/test holds no file \*_gtFine_labelIds.png; download"
    with pytest.raises(UserError, match=message):
        prepare(source)


def test_archive_that_was_cut_off_is_named(files, tmp_path):
    source = write_source(tmp_path / "source", files)
    archive = source / LABELS
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"{archive} cannot be read as an archive \(.*again\.$"):
        prepare(source)


def test_damaged_member_is_named(files, tmp_path):
    place = "gtFine/test/bonn/bonn_000000_000019_gtFine_labelIds.png"
    source = write_source(tmp_path / "source", files)
    archive = source / LABELS
    content = bytearray(archive.read_bytes())
    start = content.index(place.encode()) + len(place)
    content[start + 20] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{archive}/{place} is damaged \(.*archive again\.$"):
        prepare(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mask((7, 34)), r"{label} has label id 34; ids go from 0 to 33\.$"),
        (mask((7, 255)), r"{label} has label id 255; ids go from 0 to 33\.$"),
        (picture(1), r"{label} is not an image of one channel \(its mode is RGB\); save"),
        (mask((7,))[:50], r"{label} cannot be read as an image"),
        (b"", r"{label} cannot be read as an image"),
    ],
)
def test_bad_label_is_named(files, tmp_path, content, message):
    place = "gtFine/test/bonn/bonn_000000_000019_gtFine_labelIds.png"
    files[LABELS][place] = content
    source = write_source(tmp_path / "source", files)
    with pytest.raises(UserError, match=message.format(label=source / LABELS / place)):
        prepare(source)
    with pytest.raises(UserError, match="not prepared"):
        opened("cityscapes", tmp_path / "tfds")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (picture(1, size=(20, 12)), r"{image} is 20 x 12 but its label {label} is 24 x 16"),
        (picture(1)[:60], r"{image} cannot be read as an image"),
    ],
)
def test_bad_image_is_named(files, tmp_path, content, message):
    image = "leftImg8bit/val/lindau/lindau_000001_000019_leftImg8bit.png"
    files[IMAGES][image] = content
    source = write_source(tmp_path / "source", files)
    label = source / LABELS / "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png"
    with pytest.raises(UserError, match=message.format(image=source / IMAGES / image, label=label)):
        prepare(source)
