"""PASCAL Context builders, 59 and 60 categories, on miniature archives in the official layout."""

import numpy as np
import pytest

from helpers.miniature import (
    examples,
    matrix,
    opened,
    picture,
    records,
    stripes,
    write_archive,
    write_folder,
)
from ranet_jax.errors import UserError
from ranet_jax.pipeline import examples as data_input
from ranet_jax.pipeline import preparation

VOC, MATRICES = "VOCtrainval_03-May-2010.tar", "trainval.tar.gz"
TEXTS = {
    "labels.txt": "1: accordion\n2: aeroplane\n3: baby carriage\n19: bedclothes\n80: cloth\n"
    "397: table\n431: unknown\n440: wall\n458: potted plant\n459: wool\n",
    # Not in the order of the other list, which also spells four of the names differently.
    "59_labels.txt": "1: aeroplane\n2: diningtable\n3: pottedplant\n4: clothes\n5: wall\n"
    "6: bedcloth\n",
}
NAMES = ("aeroplane", "diningtable", "pottedplant", "clothes", "wall", "bedcloth")
# Classes out of the 459 in each example, and the categories they become, -1 for background.
EXAMPLES = {
    "train": {
        "2008_000001": ((2, 19, 80, 397, 440, 458), (0, 5, 3, 1, 4, 2)),
        "2008_000002": ((0, 1, 3, 431, 459, 2), (-1, -1, -1, -1, -1, 0)),
    },
    "val": {"2009_000003": ((440, 459), (4, -1))},
}


def make_files():
    """Content of each archive by the path in it, with one image and one matrix that no list has."""
    root = "VOCdevkit/VOC2010"
    files = {VOC: {f"{root}/JPEGImages/2010_000009.jpg": picture(9, "jpeg")}, MATRICES: {}}
    files[MATRICES]["trainval/2010_000009.mat"] = b"not read"
    for split, labelled in EXAMPLES.items():
        files[VOC][f"{root}/ImageSets/Main/{split}.txt"] = "\n".join(labelled).encode()
        for number, (stem, (numbers, _)) in enumerate(labelled.items()):
            files[VOC][f"{root}/JPEGImages/{stem}.jpg"] = picture(number, "jpeg")
            files[MATRICES][f"trainval/{stem}.mat"] = matrix("LabelMap", numbers)
    return files | {name: text.encode() for name, text in TEXTS.items()}


def write_source(root, files, unpacked=False):
    for name, content in files.items():
        if isinstance(content, bytes):
            write_folder(root, {name: content})
        elif unpacked:
            write_folder(root, content)
        elif content:
            write_archive(root / name, content)
    return root


def prepare(source, name="pascal_context"):
    data_dir = source.parent / "tfds"
    preparation.prepare(name, str(source), str(data_dir))
    return data_dir


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(write_source(tmp_path_factory.mktemp("context") / "source", make_files()))


@pytest.fixture
def attempt(tmp_path):
    """Prepare files, which must fail; return the one-sentence error and the source."""

    def run(files, unpacked=False):
        source = write_source(tmp_path / "source", files, unpacked)
        with pytest.raises(UserError) as caught:
            prepare(source)
        with pytest.raises(UserError, match="not prepared"):
            opened("pascal_context", tmp_path / "tfds")
        return str(caught.value), source

    return run


def check_examples(name, data_dir, background, first):
    for split, labelled in EXAMPLES.items():
        found = examples(name, data_dir, split)
        assert found.keys() == labelled.keys()
        for number, (stem, (_, categories)) in enumerate(labelled.items()):
            image, label = found[stem]
            assert image == picture(number, "jpeg")
            expected = stripes([background if c < 0 else c + first for c in categories])
            np.testing.assert_array_equal(label, expected)


# ------------------------------------------------------------------------ what is prepared


def test_59_categories_ignore_the_background(prepared):
    check_examples("pascal_context", prepared, background=255, first=0)
    metadata = data_input.dataset_metadata(opened("pascal_context", prepared))
    assert metadata.name == "pascal_context"
    assert metadata.class_names == NAMES
    assert metadata.palette[:2] == ((128, 0, 0), (0, 128, 0))
    assert metadata.ignore_label == 255


def test_60_categories_begin_with_the_background(tmp_path):
    data_dir = prepare(write_source(tmp_path / "source", make_files()), "pascal_context_60")
    check_examples("pascal_context_60", data_dir, background=0, first=1)
    metadata = data_input.dataset_metadata(opened("pascal_context_60", data_dir))
    assert metadata.name == "pascal_context_60"
    assert metadata.class_names == ("background", *NAMES)
    assert metadata.palette[:2] == ((0, 0, 0), (128, 0, 0))


def test_unpacked_folders_give_the_same_records(prepared, tmp_path, capsys):
    source = write_source(tmp_path / "source", make_files(), unpacked=True)
    assert records("pascal_context", prepare(source)) == records("pascal_context", prepared)
    notes = capsys.readouterr().err
    assert "Split val has 1 images; officially it has 5105." in notes
    assert f"{source / '59_labels.txt'} has 6 classes; officially it has 59." in notes


def test_lists_of_classes_may_lie_among_the_labels(prepared, tmp_path):
    files = make_files()
    files[MATRICES] |= {f"./trainval/{name}": files.pop(name) for name in TEXTS}
    files["59_labels.txt"] = b"0: background\n" + TEXTS["59_labels.txt"].encode()
    source = write_source(tmp_path / "source", files)
    assert records("pascal_context", prepare(source)) == records("pascal_context", prepared)


# ---------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("archive", "folder", "origin"),
    [
        (VOC, "VOCdevkit/VOC2010", "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/"),
        (MATRICES, "trainval", "https://cs.stanford.edu/~roozbeh/pascal-context/"),
    ],
)
def test_missing_archive_is_named(attempt, archive, folder, origin):
    message, source = attempt(make_files() | {archive: {}})
    assert message == (
        f"{source} has neither {archive} nor the folder {folder} unpacked from it; download "
        f"{archive} from {origin}."
    )


@pytest.mark.parametrize("name", TEXTS)
def test_missing_list_of_classes_is_named(attempt, name):
    files = make_files()
    del files[name]
    message, source = attempt(files)
    assert message == (
        f"{source / name} is missing; download it from "
        "https://cs.stanford.edu/~roozbeh/pascal-context/."
    )


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize(
    ("archive", "place"),
    [
        (VOC, "VOCdevkit/VOC2010/JPEGImages/2008_000002.jpg"),
        (VOC, "VOCdevkit/VOC2010/ImageSets/Main/val.txt"),
        (MATRICES, "trainval/2009_000003.mat"),
    ],
)
def test_missing_file_is_named(attempt, archive, place, unpacked):
    files = make_files()
    del files[archive][place]
    message, source = attempt(files, unpacked)
    named = source / place if unpacked else source / archive / place
    assert message.startswith(f"{named} is missing; it is part of {archive} from http")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "59_labels.txt",
            b"1: aeroplane\n2: zebra\n",
            "Class 'zebra' of {file} is not in labels.txt; download both again.",
        ),
        (
            "labels.txt",
            b"1: accordion\naeroplane\n",
            "{file} has the line 'aeroplane'; its lines are like '2: aeroplane'.",
        ),
        ("labels.txt", b"\n", "{file} names no classes; its lines are like '2: aeroplane'."),
    ],
)
def test_bad_list_of_classes_is_named(attempt, name, content, message):
    found, source = attempt(make_files() | {name: content})
    assert found == message.format(file=source / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (matrix("LabelMap", (1, 460)), "has class 460; labels.txt goes up to 459."),
        (matrix("Labels", (1, 2)), "holds no matrix of numbers called LabelMap."),
        (b"MATLAB", "cannot be read as a MATLAB file"),
    ],
)
def test_bad_matrix_is_named(attempt, content, message):
    files = make_files()
    files[MATRICES]["trainval/2009_000003.mat"] = content
    found, source = attempt(files)
    assert found.startswith(f"{source / MATRICES}/trainval/2009_000003.mat {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (picture(1, "jpeg", (20, 12)), "is 20 x 12 but its label {label} is 24 x 16; they must"),
        (picture(1, "jpeg")[:80], "cannot be read as an image"),
    ],
)
def test_bad_image_is_named(attempt, content, message):
    files = make_files()
    place = "VOCdevkit/VOC2010/JPEGImages/2009_000003.jpg"
    files[VOC][place] = content
    found, source = attempt(files)
    label = source / MATRICES / "trainval/2009_000003.mat"
    assert found.startswith(f"{source / VOC / place} {message.format(label=label)}")


@pytest.mark.parametrize("archive", [VOC, MATRICES])
def test_archive_that_was_cut_off_is_named(tmp_path, archive):
    source = write_source(tmp_path / "source", make_files())
    path = source / archive
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(UserError, match=rf"{path}.*(download it|download the archive) again\.$"):
        prepare(source)
