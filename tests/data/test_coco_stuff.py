"""COCO-Stuff builders, 10k and 164k, on miniature archives in the official layouts."""

import numpy as np
import pytest
from PIL import Image

from helpers.miniature import (
    encoded,
    examples,
    mask,
    matrix,
    opened,
    picture,
    records,
    stripes,
    write_archive,
    write_folder,
)
from ranet_data.coco_stuff import labels
from ranet_jax.errors import UserError
from ranet_jax.pipeline import examples as data_input
from ranet_jax.pipeline import preparation

TEN = "cocostuff-10k-v1.1.zip"
MAPS = "stuffthingmaps_trainval2017.zip"
STEM = "COCO_train2014_00000000000"
# Official ids (from 1) of each example, and the categories that they become.
EXAMPLES = {
    "train": {
        "1": ((0, 1, 11, 13, 25, 27, 28), (255, 0, 10, 11, 23, 24, 25)),
        "2": ((31, 44, 46, 65, 67, 70, 72), (26, 39, 40, 59, 60, 61, 62)),
    },
    "val": {"3": ((82, 84, 90, 92, 181, 182), (72, 73, 79, 80, 169, 170))},
}


def less_one(ids):
    """Values of a label map of the 164k version: 0 becomes 255."""
    return tuple((value - 1) % 256 for value in ids)


def ten_thousand():
    """Content of the archive by the path in it; one image is in no list."""
    files = {f"images/{STEM}9.jpg": picture(9, "jpeg")}
    for split, listing in (("train", "train"), ("val", "test")):
        stems = [f"{STEM}{number}" for number in EXAMPLES[split]]
        files[f"imageLists/{listing}.txt"] = ("\r\n".join(stems) + "\r\n").encode()
        for number, (ids, _) in EXAMPLES[split].items():
            files[f"images/{STEM}{number}.jpg"] = picture(int(number), "jpeg")
            files[f"annotations/{STEM}{number}.mat"] = matrix("S", ids)
    return {TEN: files}


def all_of_it():
    """Content of each archive by the path in it."""
    files = {"train2017.zip": {}, "val2017.zip": {}, MAPS: {}}
    for split, numbered in EXAMPLES.items():
        for number, (ids, _) in numbered.items():
            place = f"{split}2017/00000000000{number}"
            files[f"{split}2017.zip"][f"{place}.jpg"] = picture(int(number), "jpeg")
            files[MAPS][f"{place}.png"] = mask(less_one(ids))
    return files


def write_source(root, files, unpacked=False):
    for archive, content in files.items():
        if not unpacked:
            if content:
                write_archive(root / archive, content)
        else:
            parent = {TEN: "", MAPS: "annotations"}.get(archive, "images")
            write_folder(root / parent, content)
    return root


VERSIONS = {"coco_stuff": ten_thousand, "coco_stuff_164k": all_of_it}


def prepare(name, source):
    data_dir = source.parent / "tfds"
    preparation.prepare(name, str(source), str(data_dir))
    return data_dir


@pytest.fixture(scope="module", params=VERSIONS)
def prepared(request, tmp_path_factory):
    name = request.param
    source = write_source(tmp_path_factory.mktemp(name) / "source", VERSIONS[name]())
    return name, prepare(name, source)


@pytest.fixture
def attempt(tmp_path):
    """Prepare files, which must fail; return the one-sentence error and the source."""

    def run(name, files, unpacked=False):
        source = write_source(tmp_path / "source", files, unpacked)
        with pytest.raises(UserError) as caught:
            prepare(name, source)
        with pytest.raises(UserError, match="not prepared"):
            opened(name, tmp_path / "tfds")
        return str(caught.value), source

    return run


# ---------------------------------------------------------------------------------- labels


def test_ids_are_numbered_without_gaps():
    assert len(labels.IDS) == len(labels.CLASS_NAMES) == len(set(labels.PALETTE)) == 171
    assert len(set(labels.CLASS_NAMES)) == 171
    names = dict(zip(labels.IDS, labels.CLASS_NAMES, strict=True))
    # Both sides of each gap, the last thing, the first stuff and the last stuff.
    assert [names[i] for i in (11, 13, 25, 27, 28, 31)] == [
        *("fire hydrant", "stop sign", "giraffe", "backpack", "umbrella", "handbag")
    ]
    assert [names[i] for i in (44, 46, 65, 67, 70, 72)] == [
        *("bottle", "wine glass", "bed", "dining table", "toilet", "tv")
    ]
    assert [names[i] for i in (82, 84, 90, 92)] == ["refrigerator", "book", "toothbrush", "banner"]
    assert [names[i] for i in (110, 133, 157, 181, 182)] == [
        *("desk-stuff", "mirror-stuff", "sky-other", "window-other", "wood")
    ]
    assert labels.MISSING_IDS == (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)


# ------------------------------------------------------------------------ what is prepared


def test_ids_become_categories_and_images_keep_their_bytes(prepared):
    name, data_dir = prepared
    stem = STEM if name == "coco_stuff" else "00000000000"
    for split, numbered in EXAMPLES.items():
        found = examples(name, data_dir, split)
        assert found.keys() == {f"{stem}{number}" for number in numbered}
        for number, (_, categories) in numbered.items():
            image, label = found[f"{stem}{number}"]
            assert image == picture(int(number), "jpeg")
            np.testing.assert_array_equal(label, stripes(categories))


def test_metadata(prepared):
    name, data_dir = prepared
    metadata = data_input.dataset_metadata(opened(name, data_dir))
    assert metadata.name == name
    assert metadata.class_names == labels.CLASS_NAMES
    assert metadata.palette == labels.PALETTE
    assert metadata.ignore_label == 255


def test_unpacked_folders_give_the_same_records(prepared, tmp_path, capsys):
    name, data_dir = prepared
    unpacked = prepare(name, write_source(tmp_path / "source", VERSIONS[name](), unpacked=True))
    assert records(name, unpacked) == records(name, data_dir)
    officially = 9000 if name == "coco_stuff" else 118287
    note = f"Split train has 2 images; officially it has {officially}."
    assert note in capsys.readouterr().err


def test_maps_of_another_toolbox_are_passed_over(tmp_path):
    files = VERSIONS["coco_stuff_164k"]()
    for place in [name for name in files[MAPS] if name.endswith(".png")]:
        files[MAPS][place.replace(".png", "_labelTrainIds.png")] = b"-"
    data_dir = prepare("coco_stuff_164k", write_source(tmp_path / "source", files))
    assert len(examples("coco_stuff_164k", data_dir, "train")) == 2


# ---------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("name", "archive", "folder"),
    [
        ("coco_stuff", TEN, "imageLists"),
        ("coco_stuff_164k", "train2017.zip", "images/train2017"),
        ("coco_stuff_164k", "val2017.zip", "images/val2017"),
        ("coco_stuff_164k", MAPS, "annotations/train2017"),
    ],
)
def test_missing_archive_is_named(attempt, name, archive, folder):
    files = VERSIONS[name]()
    files[archive].clear()
    files["notes.zip"] = {"note": b"-"}
    message, source = attempt(name, files)
    start = f"{source} has neither {archive} nor the folder {folder} unpacked from it; download "
    assert message.startswith(f"{start}{archive} from http://")


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize(
    ("name", "archive", "place"),
    [
        ("coco_stuff", TEN, f"images/{STEM}2.jpg"),
        ("coco_stuff", TEN, f"annotations/{STEM}3.mat"),
        ("coco_stuff", TEN, "imageLists/test.txt"),
        ("coco_stuff_164k", "train2017.zip", "train2017/000000000002.jpg"),
        ("coco_stuff_164k", MAPS, "train2017/000000000001.png"),
    ],
)
def test_missing_file_is_named(attempt, name, archive, place, unpacked):
    files = VERSIONS[name]()
    del files[archive][place]
    message, source = attempt(name, files, unpacked)
    parent = {TEN: "", MAPS: "annotations"}.get(archive, "images")
    named = source / parent / place if unpacked else source / archive / place
    assert message.startswith(f"{named} is missing; it is part of {archive} from http://")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n", "names no images; download cocostuff-10k-v1.1.zip again."),
        (f"{STEM}3\n{STEM}3\n".encode(), f"names image {STEM}3 2 times; leave one of the lines."),
        (b"\xff\xfe\x00", "is not text"),
    ],
)
def test_bad_list_is_named(attempt, content, message):
    files = ten_thousand()
    files[TEN]["imageLists/test.txt"] = content
    found, source = attempt("coco_stuff", files)
    assert found.startswith(f"{source / TEN}/imageLists/test.txt {message}")


WRONG_ID = "; ids are 0 (unlabeled) and 1 to 182 without 12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (matrix("S", (1, 12)), f"has label id 12{WRONG_ID}, as in version 1.1."),
        (matrix("S", (1, 183)), f"has label id 183{WRONG_ID}"),
        (matrix("S", (1, 2))[:150], "cannot be read as a MATLAB file"),
        (b"", "cannot be read as a MATLAB file"),
        (matrix("T", (1, 2)), "holds no matrix of numbers called S."),
    ],
)
def test_bad_matrix_is_named(attempt, content, message):
    files = ten_thousand()
    place = f"annotations/{STEM}3.mat"
    files[TEN][place] = content
    found, source = attempt("coco_stuff", files)
    assert found.startswith(f"{source / TEN / place} {message}")


def test_matrix_of_fractions_is_named(attempt):
    files = ten_thousand()
    files[TEN][f"annotations/{STEM}3.mat"] = matrix("S", (1.5, 2))
    found, source = attempt("coco_stuff", files)
    path = source / TEN / f"annotations/{STEM}3.mat"
    assert found == f"S of {path} holds numbers that are not integers."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mask((0, 11)), f"has label id 12, written as 11{WRONG_ID}"),
        (mask((0, 182)), f"has label id 183, written as 182{WRONG_ID}"),
        (picture(1), "is not an image of one channel (its mode is RGB); save the class"),
        (mask((0,))[:50], "cannot be read as an image"),
    ],
)
def test_bad_label_map_is_named(attempt, content, message):
    files = all_of_it()
    files[MAPS]["val2017/000000000003.png"] = content
    found, source = attempt("coco_stuff_164k", files)
    assert found.startswith(f"{source / MAPS}/val2017/000000000003.png {message}")


@pytest.mark.parametrize("name", VERSIONS)
def test_bad_image_is_named(attempt, name, tmp_path):
    archive, place, label = (
        (TEN, f"images/{STEM}3.jpg", f"{TEN}/annotations/{STEM}3.mat")
        if name == "coco_stuff"
        else ("val2017.zip", "val2017/000000000003.jpg", f"{MAPS}/val2017/000000000003.png")
    )
    files = VERSIONS[name]()
    files[archive][place] = encoded(Image.new("RGB", (10, 16)), "jpeg")
    found, source = attempt(name, files)
    image = source / archive / place
    assert found.startswith(f"{image} is 10 x 16 but its label {source / label} is 24 x 16")
    files[archive][place] = files[archive][place][:80]
    found, _ = attempt(name, files)
    assert found.startswith(f"{image} cannot be read as an image")
