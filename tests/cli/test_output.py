"""`--quiet` and `--json` of the commands, and what they print in a terminal."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers.clips import moving_blocks, write_clip
from helpers.fakes import brightest_channel_model
from helpers.terminal import run_in_terminal
from ranet_jax.cli import main
from ranet_jax.cli.document import show_document
from ranet_jax.cli.main import COMMANDS, build_parser
from ranet_jax.config_files import read_config
from ranet_jax.display.output import Output, with_output
from ranet_jax.inspection import inspect_config


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """A folder with an image, a video and a file that is neither, and a model for them."""
    model = brightest_channel_model()
    monkeypatch.setattr("ranet_jax.inference.model.load", lambda path, configure=None: model)
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(moving_blocks(1)[0]).save(folder / "a.png")
    write_clip(folder / "b.mp4", moving_blocks(2))
    (folder / "c.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture
def config(tmp_path):
    settings = {"context": "none", "backbone": "resnet18", "stages": 1, "width": 4}
    (tmp_path / "tiny.py").write_text(
        "from ranet_jax.config import default_config\n\n\ndef get_config():\n"
        f"    config = default_config()\n    config.model.update({settings})\n    return config\n"
    )
    return tmp_path / "tiny.py"


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_command_has_the_options_before_and_after_its_name(command):
    example = command.EXAMPLES[0].split()[1:]
    for arguments in (["--quiet", *example, "--json"], ["--json", *example, "-q"]):
        parsed, _ = build_parser().parse_known_args(arguments)
        assert (parsed.quiet, parsed.json) == (True, True)
    parsed, _ = build_parser().parse_known_args(example)
    assert (parsed.quiet, parsed.json) == (False, False)


@pytest.mark.slow
def test_a_prediction_as_json(inputs, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("predict", "run", inputs, "--output", out, "--json") == 1
    shown = capsys.readouterr()
    image, video, neither = json.loads(shown.out)["predictions"]
    kinds = ("labels", "overlay", "regions")
    assert image["files"] == {kind: str(out / f"a_{kind}.png") for kind in kinds}
    assert (image["input"], image["error"]) == (str(inputs / "a.png"), None)
    assert (video["files"], video["frames"]) == ({"overlay": str(out / "b_overlay.mp4")}, 2)
    assert neither["files"] == {}
    assert f"ranet: {neither['error']}" in shown.err
    assert f"Written to {out}." in shown.err


@pytest.mark.slow
def test_a_quiet_command_prints_errors_alone(inputs, tmp_path, capsys):
    arguments = ("predict", "run", inputs, "--output", tmp_path / "out")
    assert run(*arguments, "--quiet") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert "c.jpg cannot be read as an image" in line
    (inputs / "c.jpg").unlink()
    assert run("--quiet", *arguments) == 0
    assert capsys.readouterr() == ("", "")
    assert run(*arguments) == 0
    shown = capsys.readouterr()
    assert shown.out == f"Written to {tmp_path / 'out'}.\n"
    assert "predict: 2/2 images" in shown.err


@pytest.mark.parametrize("options", [["--json"], ["--quiet"], ["--quiet", "--json"]])
def test_an_error_is_a_sentence_on_standard_error_whatever_is_asked_for(refusal, options):
    message = refusal("inspect", "--config", "missing.py", *options)
    assert "missing.py" in message


def test_options_of_videos_need_one(inputs, tmp_path, refusal):
    arguments = ("predict", "run", inputs / "a.png", "--output", tmp_path / "out")
    for option in ("--frame-labels", "--max-frames=3"):
        assert "has no effect without a video or camera" in refusal(*arguments, option)
    message = refusal(*arguments[:3], "camera:0", "--output", tmp_path / "out")
    expected = "camera:0 cannot be combined with other inputs or --submission; leave those out."
    assert message == expected
    assert not (tmp_path / "out").exists()


def test_what_json_lacks_is_null(capsys, tmp_path):
    value = {"nan": float("nan"), "path": tmp_path, "number": np.float32(0.5), "pair": (1, 2)}
    with with_output(Output(json=True)):
        show_document(value | {"inner": [float("inf")]})
    expected = {"nan": None, "path": str(tmp_path), "number": 0.5, "pair": [1, 2], "inner": [None]}
    assert json.loads(capsys.readouterr().out) == expected
    show_document(value)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_an_inspection_in_pipes_terminals_and_as_json(config, capsys, monkeypatch):
    found = inspect_config(read_config(str(config), []), 3)
    monkeypatch.setattr("ranet_jax.inspection.inspect_config", lambda config, num_classes: found)
    arguments = ("inspect", "--config", config, "--num-classes", "3")
    assert run(*arguments) == 0
    assert capsys.readouterr().out == f"{found.text()}\n"
    assert run(*arguments, "--quiet", "--parameters") == 0
    assert capsys.readouterr().out == f"{found.text(each=True)}\n"
    assert run(*arguments, "--json", "--parameters") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["num_parameters"] == sum(document["modules"].values()) == found.total
    assert document["features"]["fine"] == list(found.features["fine"])
    assert sum(np.prod(shape) for shape in document["parameters"].values()) == found.total

    shown = run_in_terminal("-m", "ranet_jax", *map(str, arguments), columns=60)
    assert "────" in shown
    assert "|" not in shown
    assert f"{found.total:,}" in shown


@pytest.mark.slow
def test_the_overview_in_a_terminal_is_that_of_a_pipe(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.chdir(tmp_path)
    assert run() == 0
    text = capsys.readouterr().out
    assert run_in_terminal("-m", "ranet_jax", columns=60) == text
    assert run("--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["data_sets"], document["runs"], document["ported_weights"]) == ([], [], [])
    assert document["next_commands"][0] in text
