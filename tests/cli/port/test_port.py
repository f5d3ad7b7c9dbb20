"""`ranet port`: what it writes, and what it refuses without writing anything."""

import hashlib
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch

from helpers.port_command import CONFIG, assert_same_bits, command, files, read_back
from ranet_jax import checkpoints, porting
from ranet_jax.porting.files import READERS

pytestmark = pytest.mark.slow

# --------------------------------------------------------------------------------- what it writes


def test_a_card_tells_where_the_weights_are_from(source, ported, tmp_path):
    text = (ported / "README.md").read_text()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert f"come from the file `resnet18.pth` with SHA-256 `{digest}`." in text
    assert "The weights of `resnet18`, in the names of torchvision," in text
    assert text.rstrip().endswith("They were not compared with PyTorch.")
    compared = tmp_path / "compared"
    assert command(source, "--model", "resnet18", "--output", compared, "--verify") == 0
    table = (compared / "README.md").read_text().split("```")[1]
    assert {"stem", "layer1", "layer4"} <= {line.split()[0] for line in table.strip().splitlines()}


def test_the_file_is_opened_once(source, tmp_path, monkeypatch):
    read, paths = READERS[".pth"], []
    monkeypatch.setitem(READERS, ".pth", lambda path: paths.append(path) or read(path))
    assert command(source, "--model", "resnet18", "--output", tmp_path / "ported") == 0
    assert paths == [source]


def test_a_backbone_s_directory(source, ported, model):
    names = {"variables", "port.json", "kept.safetensors", "manifest.json", "README.md"}
    assert {path.name for path in ported.iterdir()} == names
    assert json.loads((ported / "port.json").read_text()) == {
        "network": "resnet18",
        "naming": "torchvision",
        "output_stride": 32,
        "num_classes": 3,
        "fresh": [],
        "source": "resnet18.pth",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    kept = safetensors.numpy.load_file(ported / "kept.safetensors")
    counts = [name for name in model.state_dict() if name.endswith("num_batches_tracked")]
    assert len(counts) == 20
    assert kept.keys() == set(counts)
    assert all((kept[name].dtype, int(kept[name])) == (np.int64, 1234) for name in counts)


def test_a_backbone_s_arrays(ported, model):
    variables = checkpoints.read_variables(ported / "variables")
    assert len(jax.tree.leaves(variables)) == 102
    weight = model.state_dict()["layer3.0.downsample.0.weight"].numpy()
    kernel = variables["params"]["layer3_block0"]["conv_shortcut"]["kernel"]
    np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 1, 0))


def test_it_says_what_it_wrote(source, tmp_path, capsys):
    output = tmp_path / "out"
    options = ("--output-stride", 8, "--allow-missing", "nothing at all")
    assert command(source, "--model", "resnet18", "--output", output, *options) == 0
    assert capsys.readouterr().out == (
        "resnet18: 102 arrays in the names of torchvision, output stride 8, 3 classes.\n"
        f"Written to {output}.\n"
    )
    assert json.loads((output / "port.json").read_text())["output_stride"] == 8
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_classifier_is_renewed_on_request_alone(source, model, tmp_path, capsys):
    output = tmp_path / "out"
    assert command(source, "--model", "resnet18", "--output", output, "--num-classes", 5) == 0
    assert "2 arrays have new initial values: those of fc." in capsys.readouterr().out
    description = json.loads((output / "port.json").read_text())
    assert description["num_classes"] == 5
    assert sorted(description["fresh"]) == ["params/fc/bias", "params/fc/kernel"]
    variables = checkpoints.read_variables(output / "variables")
    assert variables["params"]["fc"]["kernel"].shape == (512, 5)
    back = tmp_path / "back.pth"
    assert command(output, "--reverse", "--format", "pth", "--output", back) == 0
    state = model.state_dict()
    assert_same_bits(read_back(back), {k: v for k, v in state.items() if not k.startswith("fc.")})


# ---------------------------------------------------------------- what it refuses, nothing written


def test_an_output_that_exists_is_left_as_it_is(source, tmp_path, sentence):
    output = tmp_path / "out"
    output.mkdir()
    (output / "notes").write_text("precious")
    complaint = sentence(source, "--model", "resnet18", "--output", output)
    assert complaint == f"{output} exists already; choose another directory."
    assert files(output) == {output / "notes": b"precious"}


def test_weights_that_do_not_fit_leave_no_directory(source, tmp_path, failure):
    output = tmp_path / "out"
    complaint, said = failure(source, "--model", "resnet34", "--output", output, "--verify")
    assert "  missing: layer1.2.conv1.weight (3, 3, 64, 64) of the network" in complaint
    assert said == ""
    assert list(tmp_path.iterdir()) == []


def test_reports_are_short_unless_all_is_asked_for(source, tmp_path, failure):
    arguments = (source, "--model", "resnet101", "--output", tmp_path / "out")
    complaint, _ = failure(*arguments)
    first, *lines = complaint.splitlines()
    assert first.startswith(
        "These weights belong to resnet18, in the names of torchvision; you asked"
    )
    assert len(lines) < 40
    everything, _ = failure(*arguments, "--all")
    assert len(everything.splitlines()) > 400
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--model", "resnet18"], "`ranet port` needs --output"),
        (["--output", "{out}"], "`ranet port` needs --model"),
        (["--model", "vgg", "--output", "{out}"], "There is no network 'vgg'"),
        (["--model", "vgg.py", "--output", "{out}"], "Config vgg.py is missing"),
        (
            ["--model", "resnet18", "--output", "{out}", "--output-stride", "12"],
            "ResNet's output_stride is 12; choose one of (4, 8, 16, 32).",
        ),
        (
            ["--model", "resnet18", "--output", "{out}", "--num-classes", "0"],
            "The number of classes is 0",
        ),
        (
            ["--model", "resnet18", "--output", "{out}", "--dataset", "camvid"],
            "resnet18 is not a segmenter; leave --dataset out.",
        ),
        (
            ["--model", "resnet18", "--output", "{out}", "--format", "pth"],
            "--format belongs to --reverse; leave it out.",
        ),
        (
            ["--model", "resnet18", "--output", "{out}", "--naming", "timm"],
            "--naming belongs to --reverse; leave it out.",
        ),
        (["--reverse"], "--reverse needs --format pth or --format safetensors."),
        *(
            (["--reverse", "--format", "pth", *option], f"{option[0]} does not go with --reverse;")
            for option in (
                ["--model", "resnet18"],
                ["--output-stride", "8"],
                ["--num-classes", "3"],
                ["--allow-missing", "fc"],
                ["--from", "model"],
                ["--all"],
                ["--dataset", "camvid"],
                ["--data-dir", "somewhere"],
                ["--verify"],
            )
        ),
    ],
)
def test_options_that_are_wrong(source, tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    given = [argument.format(out=tmp_path / "out") for argument in arguments]
    assert command(source, *given) == 1
    error = capsys.readouterr().err
    assert error.startswith("ranet: ")
    assert text in error
    assert error.endswith(".\n")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_config_with_a_value_out_of_range_is_refused(source, tmp_path, sentence):
    config = tmp_path / "config.py"
    config.write_text(CONFIG.replace("width=4", "width=10**400"))
    complaint = sentence(source, "--model", config, "--output", tmp_path / "out")
    assert complaint.startswith("config.model.width is a number of about 401 digits; choose a")
    assert not (tmp_path / "out").exists()


def test_files_that_hold_no_weights(tmp_path, sentence):
    path = tmp_path / "w.pth"
    path.write_text("<html>404</html>")
    complaint = sentence(path, "--model", "resnet18", "--output", tmp_path / "out")
    assert complaint.startswith(f"{path} is damaged or is not a .pth file")
    missing = tmp_path / "x.pth"
    complaint = sentence(missing, "--model", "resnet18", "--output", tmp_path / "out")
    assert complaint.startswith(f"{missing} is missing")
    assert list(tmp_path.iterdir()) == [path]


def test_of_several_state_dicts_one_is_chosen(model, tmp_path, sentence):
    path, output = tmp_path / "w.pth", tmp_path / "out"
    torch.save({"model": model.state_dict(), "ema": {"module": model.state_dict()}}, path)
    complaint = sentence(path, "--model", "resnet18", "--output", output)
    assert complaint.startswith(f"{path} holds several state dicts; choose the one to take the")
    assert complaint.endswith(": model (122 tensors), ema.module (122 tensors).")
    assert list(tmp_path.iterdir()) == [path]
    assert command(path, "--model", "resnet18", "--output", output, "--from", "ema.module") == 0
    assert output.is_dir()


# --------------------------------------------------------------------------------------- --verify


def test_verification_prints_every_stage(source, tmp_path, capsys):
    output = tmp_path / "out"
    assert command(source, "--model", "resnet18", "--output", output, "--verify") == 0
    assert output.is_dir()
    _, header, *rows, note, _ = capsys.readouterr().out.splitlines()
    assert header.split() == ["stage", "shape", "float32", "float64"]
    assert [row.split()[0] for row in rows] == [
        *("stem", "layer1", "layer2", "layer3", "layer4", "logits")
    ]
    for row in rows:
        *_, single, double = row.split()
        assert 0 <= float(double) < 1e-12
        assert 1e-9 < float(single) < 1e-4
    assert note.startswith("Largest difference from PyTorch")


def falsify(change):
    """`port_state_dict` with one kernel of its network changed."""
    port_state_dict = porting.port_state_dict

    def port(*arguments):
        ported = port_state_dict(*arguments)
        kernel = ported.variables["params"]["layer3_block0"]["conv1"]["kernel"]
        kernel[0, 0, 0, :] = change(kernel[0, 0, 0, :])
        return ported

    return port


@pytest.mark.parametrize("change", [lambda x: x + 0.1, lambda x: x * np.float32(np.nan)])
def test_a_network_that_computes_something_else_is_not_written(
    source, tmp_path, failure, monkeypatch, change
):
    monkeypatch.setattr(porting, "port_state_dict", falsify(change))
    output = tmp_path / "out"
    complaint, said = failure(source, "--model", "resnet18", "--output", output, "--verify")
    assert complaint == (
        f"{source} gives other results here than in PyTorch (they differ by more than 0.0001 in"
        " float32); nothing is written."
    )
    differences = {row.split()[0]: row.split()[-2] for row in said.splitlines()[2:-1]}
    assert float(differences["layer2"]) < 1e-4
    assert not float(differences["layer3"]) < 1e-4
    assert list(tmp_path.iterdir()) == []


def test_an_output_stride_that_timm_lacks(source, tmp_path, failure):
    options = ("--output-stride", 4, "--verify")
    complaint, _ = failure(source, "--model", "resnet18", "--output", tmp_path / "out", *options)
    assert complaint.startswith("timm has no resnet18 of output stride 4 to compare with")
    assert list(tmp_path.iterdir()) == []
