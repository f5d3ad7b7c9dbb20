"""Options of pictures that `ranet evaluate` and `predict` refuse before they load a model."""

import pytest

from ranet_jax.cli import main


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("evaluate run --alpha 0.5", "--alpha has no effect without pictures; add --pictures N."),
        ("evaluate run --alpha 2 --pictures 1", "alpha is 2.0; choose a number from 0"),
        ("predict run a.png --output out --alpha -1", "alpha is -1.0; choose a number from 0"),
        ("predict run a.png --output out --alpha nan", "alpha is nan; choose a number from 0"),
        (
            "predict run a.png --output out.zip --submission cityscapes --alpha 0.5",
            "--alpha has no effect with --submission, which draws no pictures; leave it out.",
        ),
        ("predict run a.png --output out --max-pixels 0", "max_pixels is 0; choose 1 or more."),
        (
            "predict run a.png --output out.zip --submission cityscapes --max-pixels 9",
            "--max-pixels has no effect with --submission; leave it out.",
        ),
    ],
)
def test_options_of_no_use_are_refused(command, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 1
    assert capsys.readouterr().err.startswith(f"ranet: {sentence}")
    assert list(tmp_path.iterdir()) == []
