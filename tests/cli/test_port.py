"""`ranet port`: what it writes, what it refuses and leaves undone, and the way back."""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch
from ml_collections import ConfigDict
from safetensors.torch import load_file, save_file

import ranet_jax
from helpers.torch_networks import randomised, run, timm
from helpers.torch_networks import torchvision as tv
from ranet_jax import checkpoints, porting
from ranet_jax.cli import main
from ranet_jax.config import default_config
from ranet_jax.errors import UserError
from ranet_jax.models import build_model
from ranet_jax.pipeline.metadata import DatasetMetadata, numbered_classes

CONFIG = """
from ranet_jax.config import default_config

def get_config():
    config = default_config()
    config.data.update(name="toy", crop_size=(24, 24))
    config.model.update(
        backbone="resnet18", width=4, stages=2, channels=8, num_regions=4, per_region=2
    )
    return config
"""
DATASET = DatasetMetadata("toy", ("left", "right"), ((200, 0, 0), (0, 0, 200)))


def files(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def command(*arguments):
    return main(["port", *map(str, arguments)])


@pytest.fixture
def refusal(capsys):
    """Run a command that must fail, and return its complaint and what it had said before."""

    def run(*arguments):
        capsys.readouterr()
        assert command(*arguments) == 1
        shown = capsys.readouterr()
        assert shown.err.startswith("ranet: ")
        return shown.err.removeprefix("ranet: ").rstrip("\n"), shown.out

    return run


@pytest.fixture
def sentence(refusal):
    def run(*arguments):
        complaint, said = refusal(*arguments)
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


# --------------------------------------------------------------------------------- what it writes


def test_a_backbone_s_directory(source, ported, model):
    names = {"variables", "port.json", "kept.safetensors"}
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
    assert "2 arrays have new initial values, those of fc." in capsys.readouterr().out
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


def test_weights_that_do_not_fit_leave_no_directory(source, tmp_path, refusal):
    output = tmp_path / "out"
    complaint, said = refusal(source, "--model", "resnet34", "--output", output, "--verify")
    assert "  missing: layer4.2.conv1.weight (3, 3, 512, 512) of the network" in complaint
    assert said == ""
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
            "A classifier of 0 classes cannot be",
        ),
        (
            ["--model", "resnet18", "--output", "{out}", "--dataset", "camvid"],
            "resnet18 scores no data set; leave --dataset out.",
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


def test_files_that_hold_no_weights(tmp_path, sentence):
    path = tmp_path / "w.pth"
    path.write_text("<html>404</html>")
    complaint = sentence(path, "--model", "resnet18", "--output", tmp_path / "out")
    assert complaint.startswith(f"{path} is damaged, or is no .pth file")
    missing = tmp_path / "x.pth"
    complaint = sentence(missing, "--model", "resnet18", "--output", tmp_path / "out")
    assert complaint.startswith(f"{missing} is missing")
    assert list(tmp_path.iterdir()) == [path]


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
    """`port_state_dict` whose network has one kernel changed."""
    port_state_dict = porting.port_state_dict

    def port(*arguments):
        ported = port_state_dict(*arguments)
        kernel = ported.variables["params"]["layer3_block0"]["conv1"]["kernel"]
        kernel[0, 0, 0, :] = change(kernel[0, 0, 0, :])
        return ported

    return port


@pytest.mark.parametrize("change", [lambda x: x + 0.1, lambda x: x * np.float32(np.nan)])
def test_a_network_that_computes_something_else_is_not_written(
    source, tmp_path, refusal, monkeypatch, change
):
    monkeypatch.setattr(porting, "port_state_dict", falsify(change))
    output = tmp_path / "out"
    complaint, said = refusal(source, "--model", "resnet18", "--output", output, "--verify")
    assert complaint == (
        f"{source} computes something else here than in PyTorch (more than 0.0001 in float32);"
        " nothing is written."
    )
    differences = {row.split()[0]: row.split()[-2] for row in said.splitlines()[2:-1]}
    assert float(differences["layer2"]) < 1e-4
    assert not float(differences["layer3"]) < 1e-4
    assert list(tmp_path.iterdir()) == []


def test_an_output_stride_that_timm_lacks(source, tmp_path, refusal):
    options = ("--output-stride", 4, "--verify")
    complaint, _ = refusal(source, "--model", "resnet18", "--output", tmp_path / "out", *options)
    assert complaint.startswith("timm has no resnet18 of output stride 4 to compare with")
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------- --reverse


def read_back(path):
    if path.suffix == ".safetensors":
        return safetensors.numpy.load_file(path)
    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        value = np.asarray(value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert found[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_there_and_back_is_the_same_to_the_bit(ported, model, tmp_path, capsys, ending):
    output = tmp_path / f"back.{ending}"
    assert command(ported, "--reverse", "--format", ending, "--output", output) == 0
    expected = f"Written to {output}, in the names of torchvision.\n"
    assert capsys.readouterr().out == expected
    assert_same_bits(read_back(output), model.state_dict())


def test_without_output_the_file_is_named_after_the_checkpoint(ported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(ported, "--reverse", "--format", "safetensors") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["ported.safetensors"]


def test_double_precision_comes_back_in_double_precision(tmp_path):
    """One tensor whose values float32 holds, and one whose values it does not."""
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
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
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
    assert "\n2 arrays that its source lacked are left out.\n" in capsys.readouterr().out
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


# ------------------------------------------------------------------------------ trained segmenters


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small RANet's config file and variables, its export and a working directory."""
    root = tmp_path_factory.mktemp("trained")
    (root / "config.py").write_text(CONFIG)
    config = get_config()
    images = jax.ShapeDtypeStruct((1, 24, 24, 3), np.float32)
    shapes = jax.eval_shape(build_model(config, 2).init, jax.random.PRNGKey(0), images)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    checkpoints.export(root / "exported", config, DATASET, variables)
    checkpoints.prepare_workdir(root / "run", config, DATASET)
    with checkpoints.open_manager(root / "run", 1) as manager:
        checkpoints.save(manager, 1, {"step": 1, "ema_params": None, **variables})
    return root, variables


def get_config():
    scope = {}
    exec(CONFIG, scope)
    config = scope["get_config"]()
    assert isinstance(config, ConfigDict)
    return config


@pytest.mark.parametrize("checkpoint", ["exported", "run", "run/checkpoints/1"])
def test_a_trained_segmenter_goes_there_and_back(trained, tmp_path, checkpoint):
    root, variables = trained
    state, output = tmp_path / "state.pth", tmp_path / "again"
    options = ("--reverse", "--format", "pth", "--output", state)
    assert command(root / checkpoint, *options, "--naming", "ranet_jax") == 0
    tensors, params = read_back(state), variables["params"]
    assert len(tensors) == len(jax.tree.leaves(variables))
    np.testing.assert_array_equal(
        tensors["backbone.layer2.0.downsample.0.weight"],
        params["backbone"]["layer2_block0"]["conv_shortcut"]["kernel"].transpose(3, 2, 0, 1),
    )
    np.testing.assert_array_equal(
        tensors["context.rcb.group_kernel_deviation"],
        params["context"]["rcb"]["group_kernel_deviation"],
    )
    np.testing.assert_array_equal(tensors["fine_logit.bias"], params["fine_logit"]["bias"])
    assert command(state, "--model", root / "config.py", "--output", output) == 0
    found = checkpoints.read_variables(output / "variables")
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    assert_same_bits(
        dict(enumerate(jax.tree.leaves(found))), dict(enumerate(jax.tree.leaves(variables)))
    )
    assert (output / "config.json").is_file()
    assert ranet_jax.load(output).dataset.class_names == ("class_0", "class_1")


def test_a_network_without_twin_says_so(trained, tmp_path, refusal):
    root, _ = trained
    state, output = tmp_path / "state.safetensors", tmp_path / "again"
    options = ("--reverse", "--format", "safetensors", "--output", state)
    assert command(root / "exported", *options) == 0
    arguments = ("--model", root / "config.py", "--output", output, "--verify")
    complaint, _ = refusal(state, *arguments)
    assert complaint == (
        "Neither torchvision nor timm has segmenter to compare with; port it without --verify."
    )
    assert not output.exists()


def test_the_caller_s_config_stays_as_it_is(trained, tmp_path):
    root, _ = trained
    state = tmp_path / "state.safetensors"
    porting.reverse(root / "exported", state)
    config = get_config()
    config.model.dtype = "bfloat16"
    before = config.to_dict()
    module, _ = porting.port(state, config, output_stride=4)
    assert module.backbone.output_stride == 4
    assert config.to_dict() == before


def test_a_segmenter_of_other_classes_than_the_data_set_s(trained, tmp_path):
    root, _ = trained
    state = tmp_path / "state.safetensors"
    porting.reverse(root / "exported", state)
    ported = porting.port_state_dict(porting.read_state_dict(state), get_config())
    with pytest.raises(UserError, match="scores 2 classes, but data set 'three' has 3; name the"):
        porting.write_ported(tmp_path / "out", ported, state, numbered_classes("three", 3))
    assert [path.name for path in tmp_path.iterdir()] == [state.name]


# ------------------------------------------------------------------------- torchvision's segmenters


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (65, 49, 3)).astype(np.uint8)


def torch_scores(model, image):
    """torchvision's scores of an image, at the image's size."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = ((image / 255 - mean) / std)[None]
    fine = run(model, images, {"fine": "classifier"}, torch.float64)["fine"]
    return torch.nn.functional.interpolate(
        torch.from_numpy(fine.transpose(0, 3, 1, 2).copy()),
        size=image.shape[:2],
        mode="bilinear",
        align_corners=True,
    )[0].numpy()


@pytest.fixture(scope="module")
def fcn(image):
    """An FCN of four classes, each of which wins somewhere in the image."""
    torch.manual_seed(0)
    model = tv.models.segmentation.fcn_resnet101(
        weights=None, weights_backbone=None, num_classes=4, aux_loss=False
    )
    randomised(model)
    means = torch_scores(model, image).mean(axis=(1, 2))
    model.classifier[4].bias.data -= torch.from_numpy(means)
    return model


def test_a_ported_segmenter_segments_as_torchvision_s(fcn, image, tmp_path):
    torch.save(fcn.float().state_dict(), tmp_path / "fcn.pth")
    output = tmp_path / "out"
    assert command(tmp_path / "fcn.pth", "--model", "fcn_resnet101", "--output", output) == 0
    assert {path.name for path in output.iterdir()} == {
        *("variables", "port.json", "kept.safetensors", "config.json", "dataset.json")
    }
    model = ranet_jax.load(output)
    assert model.dataset.num_classes == 4
    scores = torch_scores(fcn, image)
    expected = scores.argmax(axis=0)
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    first, second = np.sort(scores, axis=0)[:-3:-1]
    clear = first - second > 1e-4 * np.abs(scores).max()
    assert clear.mean() > 0.99
    labels = model.predict(image).labels
    assert (labels.dtype, labels.shape) == (np.uint8, (65, 49))
    np.testing.assert_array_equal(labels[clear], expected[clear])


def test_the_defaults_are_those_the_test_assumes():
    data = default_config().data
    np.testing.assert_allclose(np.array(data.mean) / 255, [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(np.array(data.std) / 255, [0.229, 0.224, 0.225], rtol=1e-6)
