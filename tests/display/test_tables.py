"""Tables in Markdown, by hand."""

from ranet_jax.display.tables import table


def test_a_table_is_markdown_in_straight_columns():
    text = table(("head", "GMACs"), [("RANet", "47.8"), ("non-local block", "1234.5")])
    assert text.splitlines() == [
        "| head            |  GMACs |",
        "|:----------------|-------:|",
        "| RANet           |   47.8 |",
        "| non-local block | 1234.5 |",
    ]
