"""Tables in Markdown, against text written by hand, and as a terminal shows them."""

import re

import pytest

from helpers.terminal import run_in_terminal
from ranet_jax.display.output import Output, with_output
from ranet_jax.display.tables import show, table

ROWS = [("sky", "93.21", "1,234"), ("a [b]long[/b] name", "1.00", "5"), ("**mean**", "-", "")]
REPORT = f"First.\n\n{table(('class', 'IoU in percent', 'pixels'), ROWS)}\n\nLast of the report."
SHOW = "import sys; from ranet_jax.display.tables import show; show(*sys.argv[1:])"
ESCAPES = re.compile(r"\x1b\[[\d;]*m")


def test_a_table_is_markdown_in_straight_columns():
    text = table(("head", "GMACs"), [("RANet", "47.8"), ("non-local block", "1234.5")])
    assert text.splitlines() == [
        "| head            |  GMACs |",
        "|:----------------|-------:|",
        "| RANet           |   47.8 |",
        "| non-local block | 1234.5 |",
    ]


def test_elsewhere_than_in_a_terminal_a_report_is_printed_as_it_is(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    show(REPORT, in_terminal="for terminals")
    assert capsys.readouterr().out == f"{REPORT}\n"


def test_a_terminal_gets_tables_drawn():
    shown = run_in_terminal("-c", SHOW, REPORT)
    assert ESCAPES.sub("", shown).splitlines() == [
        "First.",
        "",
        "class                IoU in percent   pixels",
        "─" * 44,
        "sky                           93.21    1,234",
        "a [b]long[/b] name             1.00        5",
        "mean                              -         ",
        "",
        "Last of the report.",
    ]
    assert "\x1b[1mmean" in shown
    assert "for terminals" in run_in_terminal("-c", SHOW, REPORT, "for terminals")


def test_a_narrow_terminal_breaks_cells_and_loses_nothing():
    shown = ESCAPES.sub("", run_in_terminal("-c", SHOW, REPORT, columns=24))
    assert max(map(len, shown.splitlines())) <= 24
    letters = re.sub(r"[\s─]", "", shown)
    for cell in ("93.21", "1,234", "1.00", "sky"):
        assert cell in letters
    assert set("[b]long[/b]name") <= set(letters)


@pytest.mark.parametrize("setting", [{"TERM": "dumb"}, {"TERM": "unknown"}])
def test_a_terminal_that_cannot_draw_gets_the_report_as_it_is(setting):
    assert run_in_terminal("-c", SHOW, REPORT, **setting) == f"{REPORT}\n"


def test_without_colours_there_are_none():
    shown = run_in_terminal("-c", SHOW, REPORT, NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*[34]\dm", shown)


def test_a_cell_that_is_no_cell_leaves_the_table_as_it_is():
    odd = table(("class", "pixels"), [("this | that", "3")])
    assert run_in_terminal("-c", SHOW, odd) == f"{odd}\n"


def test_what_options_leave_of_a_report(capsys):
    def shown(output, **settings):
        with with_output(output):
            show(REPORT, **settings)
        return capsys.readouterr().out

    assert shown(Output(quiet=True)) == f"{REPORT}\n"
    assert shown(Output(quiet=True), asked_for=False) == ""
    assert shown(Output(json=True)) == ""
    assert shown(Output(), asked_for=False) == f"{REPORT}\n"
