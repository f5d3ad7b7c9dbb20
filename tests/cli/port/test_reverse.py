"""`ranet port --reverse` restores the original weights bit by bit."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.port_command import assert_same_bits, command, read_back
from helpers.torch_networks import timm
from ranet_jax.cli import main

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_there_and_back_is_the_same_to_the_bit(ported, model, tmp_path, capsys, ending):
    output = tmp_path / f"back.{ending}"
    assert command(ported, "--reverse", "--format", ending, "--output", output) == 0
    expected = f"Written to {output}, in the names of torchvision; read back, they are the same.\n"
    assert capsys.readouterr().out == expected
    assert_same_bits(read_back(output), model.state_dict())


def test_an_export_of_a_backbone_has_no_card(ported, model, tmp_path):
    output = tmp_path / "back.pth"
    assert main(["export", str(ported), "--format", "pth", "--output", str(output)]) == 0
    assert list(tmp_path.iterdir()) == [output]
    assert_same_bits(read_back(output), model.state_dict())


def test_without_output_the_file_is_named_after_the_checkpoint(ported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(ported, "--reverse", "--format", "safetensors") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["ported.safetensors"]


def test_double_precision_comes_back_in_double_precision(tmp_path):
    """One float64 tensor fits in float32 without loss, another does not."""
    state = timm.create_model("resnet18", num_classes=2).state_dict()
    state["fc.bias"] = torch.tensor([0.5, 2.0], dtype=torch.float64)
    state["bn1.running_mean"] = torch.linspace(0, 1, 64, dtype=torch.float64)
    state["bn1.bias"][:2] = torch.tensor([-0.0, torch.nan])
    torch.save(state, tmp_path / "w.pth")
    output = tmp_path / "out"
    assert command(tmp_path / "w.pth", "--model", "resnet18", "--output", output) == 0
    back = tmp_path / "back.pth"
    assert command(output, "--reverse", "--format", "pth", "--output", back) == 0
    assert_same_bits(read_back(back), state)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("ending", ["pth", pytest.param("safetensors", marks=pytest.mark.long)])
def test_half_precision_comes_back_in_half_precision(tmp_path, dtype, ending):
    model = timm.create_model("resnet18", num_classes=2).to(getattr(torch, dtype))
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    output, back = tmp_path / "out", tmp_path / f"back.{ending}"
    assert command(tmp_path / "w.safetensors", "--model", "resnet18", "--output", output) == 0
    assert command(output, "--reverse", "--format", ending, "--output", back) == 0
    found = torch.load(back) if ending == "pth" else load_file(back)
    for name, tensor in model.state_dict().items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_arrays_the_source_lacked_are_left_out_and_counted(source, tmp_path, capsys):
    output, back = tmp_path / "ported", tmp_path / "back.safetensors"
    arguments = (source, "--model", "resnet18", "--output", output, "--num-classes", "9")
    assert command(*arguments) == 0
    capsys.readouterr()
    assert command(output, "--reverse", "--format", "safetensors", "--output", back) == 0
    assert "\n2 arrays that the ported file lacked are left out.\n" in capsys.readouterr().out
    assert not any(name.startswith("fc.") for name in load_file(back))


@pytest.mark.parametrize("text", ["{}", "[]", '{"network": 1, "naming": "", "fresh": []}'])
def test_a_description_that_is_malformed(ported, tmp_path, sentence, text):
    copy = tmp_path / "copy"
    shutil.copytree(ported, copy)
    (copy / "port.json").write_text(text)
    complaint = sentence(copy, "--reverse", "--format", "pth", "--output", tmp_path / "x.pth")
    assert complaint.startswith(f"{copy / 'port.json'} lacks a field 'network' of type str; ")


def test_files_and_namings_that_are_wrong(ported, tmp_path, sentence):
    back = tmp_path / "back.pth"
    reverse = (ported, "--reverse", "--format")
    assert "does not end in .safetensors" in sentence(*reverse, "safetensors", "--output", back)
    complaint = sentence(*reverse, "pth", "--output", back, "--naming", "keras")
    assert complaint == "resnet18 has no naming 'keras'; choose one of torchvision."
    assert list(tmp_path.iterdir()) == []
    back.write_bytes(b"precious")
    assert "exists already" in sentence(*reverse, "pth", "--output", back)
    assert back.read_bytes() == b"precious"
    nowhere = tmp_path / "nowhere"
    assert "holds no checkpoint" in sentence(nowhere, *reverse[1:], "pth")
