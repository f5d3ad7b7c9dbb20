"""The page of the networks to carry over, `docs/networks.md`, written by `make networks-page`."""

import pathlib
import re

from ranet_jax.porting.networks import BACKBONES, SEGMENTERS, Network, find_network

PAGE = pathlib.Path(__file__).with_name("networks.md")
INTRODUCTION = """\
# Networks to carry over

`ranet port SOURCE --model NAME` knows these networks. The column "used by" lists the libraries
whose names are recognised, and the last column shows the first name in such a file. If there are
several namings, the one that recognises most names of the file is used, and `--reverse --naming`
writes any of them. A config of this package can be named in place of a network
([PyTorch weights in detail](porting.md)).

Where the column `--verify` says yes, the ported network can be compared with PyTorch's, stage by
stage.

This page is generated from `ranet_jax/porting/networks/` by `make networks-page`.
"""


def page() -> str:
    """The page in Markdown: a table of the backbones and one of the segmenters."""
    parts = [INTRODUCTION]
    for title, names, kind in (
        ("Backbones", BACKBONES, "classifier"),
        ("Segmenters", SEGMENTERS, "backbone and context block"),
    ):
        columns = "output stride | `--verify` | naming | used by | first name"
        header = [f"| `--model` | {kind} | {columns} |", "|---|---|---|---|---|---|---|"]
        rows = [row for name in names for row in _rows(find_network(name))]
        parts.append("\n".join([f"## {title}", "", *header, *rows, ""]))
    return "\n".join(parts)


def _rows(network: Network) -> list[str]:
    """A row for each naming; only the first shows what all namings of the network share."""
    config = network.config
    if config is None:
        kind = f"`{network.classifier.split('/')[-2]}`"
    else:
        kind = f"`{config.model.backbone}`, `{config.model.context}`"
    compared = "yes" if network.twin else "no"
    own = [f"`{network.name}`", kind, str(network.output_stride), compared]
    rows = []
    for naming in network.namings:
        first = re.sub(r"\{\w+\}", "1", naming.entries[0].source)
        names = [naming.name, naming.users or naming.name, f"`{first}`"]
        rows.append(f"| {' | '.join([*own, *names])} |")
        own = [""] * len(own)
    return rows


if __name__ == "__main__":
    PAGE.write_text(page())
