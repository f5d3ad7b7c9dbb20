"""The page of the config's fields, `docs/config.md`, written by `make config-page`."""

import pathlib

from ranet_jax.config.declarations import FIELDS
from ranet_jax.config.field import Field

PAGE = pathlib.Path(__file__).with_name("config.md")
INTRODUCTION = """\
# Config fields

Every [config](configs.md) has these fields. A file of `configs/` sets only those that differ from
the defaults, and `--config.SECTION.FIELD=VALUE` sets any of them on the command line. A value
that is not allowed is refused before anything is written. If the name of a part
of the network is wrong, the error lists the valid names.

The column "changes" says what a change of the field affects:

| changes | means | when a run is resumed | when a trained model is used |
|---|---|---|---|
| weights | the network and its weights | refused | refused |
| training | what training learns | refused | allowed |
| scores | where a run starts, what and how it scores | allowed | allowed |
| running | how a run is executed and watched | allowed | allowed |

A run can be resumed with other values of the last two kinds, for example with
`--config.eval.batch_size=1` after an evaluation that ran out of memory. Its directory keeps the
config with which the run began, and its best step is the one with the highest score, whatever the
settings it was scored with: do not compare runs in which these settings changed.
`ranet reproduce` does not train a finished run again if only
fields of the last kind differ, and refuses it if others do.

This page is generated from `ranet_jax/config/declarations.py` by `make config-page`.
"""


def page() -> str:
    """The page in Markdown: a table of fields for each section of the config."""
    sections: dict[str, list[str]] = {}
    for name, field in FIELDS.items():
        sections.setdefault(name.rpartition(".")[0], []).append(_row(name, field))
    parts = [INTRODUCTION]
    for section, rows in sections.items():
        header = [
            "| field | default | type | allowed | changes | meaning |",
            "|---|---|---|---|---|---|",
        ]
        parts.append("\n".join([f"## {section or 'The experiment'}", "", *header, *rows, ""]))
    return "\n".join(parts)


def _row(name: str, field: Field) -> str:
    default = "2/3" if field.default == 2 / 3 else repr(field.default)
    allowed = field.allowed.replace("'", "`")
    cells = (f"`{name}`", f"`{default}`", field.kind.__name__, allowed, field.effect, field.meaning)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page())
