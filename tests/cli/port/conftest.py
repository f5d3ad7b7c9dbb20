"""A ResNet-18 as a file and ported, and the error messages of `ranet port`."""

import pytest
import torch

from helpers.port_command import command
from helpers.torch_networks import randomised, timm


@pytest.fixture
def failure(capsys):
    """Run a command that must fail, and return its error message and its earlier output."""

    def run(*arguments):
        capsys.readouterr()
        assert command(*arguments) == 1
        shown = capsys.readouterr()
        assert shown.err.startswith("ranet: ")
        return shown.err.removeprefix("ranet: ").rstrip("\n"), shown.out

    return run


@pytest.fixture
def sentence(failure):
    def run(*arguments):
        complaint, said = failure(*arguments)
        assert said == ""
        assert "\n" not in complaint
        assert complaint.endswith(".")
        return complaint

    return run


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return randomised(timm.create_model("resnet18", num_classes=3))


@pytest.fixture(scope="module")
def source(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
    return path


@pytest.fixture(scope="module")
def ported(source):
    directory = source.with_name("ported")
    assert command(source, "--model", "resnet18", "--output", directory) == 0
    return directory
