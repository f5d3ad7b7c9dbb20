"""Where output goes, and what `--quiet` and `--json` leave of it."""

import pytest

from ranet_jax.display.output import Output, note, tell, with_output
from ranet_jax.display.progress import track


@pytest.mark.parametrize(
    ("output", "out", "err"),
    [
        (Output(), "told\n", "ranet: noted\n"),
        (Output(json=True), "", "told\nranet: noted\n"),
        (Output(quiet=True), "", ""),
        (Output(quiet=True, json=True), "", ""),
    ],
)
def test_where_information_goes(output, out, err, capsys):
    with with_output(output):
        tell("told")
        note("noted")
    assert capsys.readouterr() == (out, err)


def test_quiet_ends_with_its_command_and_hides_progress(capsys):
    with pytest.raises(KeyError), with_output(Output(quiet=True)):
        assert list(track([1, 2], desc="count", unit="number")) == [1, 2]
        raise KeyError
    assert capsys.readouterr().err == ""
    assert list(track([1, 2], desc="count", unit="number")) == [1, 2]
    assert capsys.readouterr().err.startswith("count: 2/2 numbers")
