"""`ranet pack` and `ranet train --arrays`: a data set in one file, and a training without TFDS."""

import json
import subprocess
import sys

import pytest

from helpers.camvid_source import make_source
from ranet_jax.cli import main

CONFIG = """
from ranet_jax.config import default_config

def get_config():
    config = default_config()
    config.data.update(name="camvid", crop_size=(24, 32))
    config.model.update(context="none", backbone="resnet18", width=4, stages=1, channels=8)
    config.train.update(steps=2, batch_size=8, log_every=1, eval_every=2, checkpoint_every=2)
    config.eval.batch_size = 2
    return config
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The data set prepared in `tfds`, packed in `camvid.npz`, and a config beside them."""
    root = tmp_path_factory.mktemp("pack")
    source, tfds = make_source(root / "source"), str(root / "tfds")
    assert main(["prepare", "camvid", "--source", str(source), "--data-dir", tfds]) == 0
    output = str(root / "camvid.npz")
    assert main(["pack", "camvid", "--data-dir", tfds, "--output", output]) == 0
    (root / "config.py").write_text(CONFIG)
    return root


@pytest.mark.long
@pytest.mark.slow
def test_training_needs_no_tensorflow(packed, tmp_path):
    """TensorFlow cannot be imported in the process, as on a machine without it."""
    program = (
        "import sys; sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None;"
        "from ranet_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["train", "--config", str(packed / "config.py"), "--workdir", str(tmp_path / "run")]
    arguments += ["--arrays", str(packed / "camvid.npz")]
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert "bicyclist" in ended.stdout
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 2]
    # The validation set equals that of TFDS, image by image.
    config = f"--config.data.data_dir={packed / 'tfds'}"
    assert main(["evaluate", str(tmp_path / "run"), config]) == 0
    scores = json.loads((tmp_path / "run" / "evaluation_val.json").read_text())
    assert scores["fine"]["miou"] == pytest.approx(json.loads(lines[-1])["fine_miou"])


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["--arrays", "none.npz"], "none.npz cannot be read as a packed data set"),
        (["--config.data.train_split=trial"], "has no split 'trial'; it has train, val"),
    ],
)
def test_a_training_that_cannot_start_leaves_nothing(arguments, part, packed, tmp_path, capsys):
    command = ["train", "--config", str(packed / "config.py"), "--workdir", str(tmp_path / "run")]
    command += ["--arrays", str(packed / "camvid.npz")]
    assert main([*command, *arguments]) == 1
    assert part in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_split_that_is_none_is_not_packed(packed, tmp_path, capsys):
    command = ["pack", "camvid", "--data-dir", str(packed / "tfds")]
    command += ["--output", str(tmp_path / "x.npz"), "--splits", "trial"]
    assert main(command) == 1
    assert "no split 'trial'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
