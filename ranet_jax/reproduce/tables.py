"""Tables 1 to 4 of the paper: their rows, what each row changes in the network, and the figures.

One more table asks how much the blocks could achieve if the regions were those of the truth.
Figures are mean IoUs in percent on the validation set of Cityscapes unless stated otherwise. Rows
with the same `run` are the same network, which is trained once for all tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
      method: what the table calls it.
      run: name of the network and of its directory.
      paper: mean IoU in the paper, in percent, by data set.
      fields: values in which the network differs from RANet, by field of the config.
      output: which of the network's segmentations is scored.
      costs: name of its line in `ranet bench heads`, if the table has costs.
      oracle: whether its regions are made from the truth.
    """

    method: str
    run: str
    paper: Mapping[str, float]
    fields: Mapping[str, Any] = field(default_factory=dict)
    output: str = "fine"
    costs: str | None = None
    oracle: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its title and its rows."""

    title: str
    rows: tuple[Row, ...]


def _context(name: str, auxiliary: bool = False) -> dict[str, Any]:
    """Fields of a network with another block and, if asked for, its published auxiliary head."""
    return {"model.context": name} | ({"model.auxiliary": True} if auxiliary else {})


def _cityscapes(miou: float) -> dict[str, float]:
    return {"cityscapes": miou}


RANET = "ranet"
PER_REGION = 8  # K, representative pixels of a region, except in rows of Table 2
# Fields of the complete RANet; rows leave parts of it out.
WHOLE: Mapping[str, Any] = {
    "per_region": PER_REGION,
    "region_scores": "both",
    "intra_region": True,
    "inter_region": True,
}
TABLES = {
    "table1": Table(
        "Ways of propagating context",
        (
            Row("backbone alone", "none", _cityscapes(77.5), _context("none")),
            Row("SPP", "psp", _cityscapes(79.6), _context("psp")),
            Row("non-local attention", "nonlocal", _cityscapes(80.5), _context("nonlocal")),
            Row(
                "RANet, boundary map alone",
                "boundary",
                _cityscapes(80.8),
                {"model.region_scores": "boundary"},
            ),
            Row(
                "RANet, semantic map alone",
                "semantic",
                _cityscapes(81.3),
                {"model.region_scores": "semantic"},
            ),
            Row(
                "RANet, no intra-region communication",
                "no_intra",
                _cityscapes(79.2),
                {"model.intra_region": False},
            ),
            Row(
                "RANet, no inter-region communication",
                "no_inter",
                _cityscapes(81.1),
                {"model.inter_region": False},
            ),
            Row("RANet", RANET, _cityscapes(81.9)),
        ),
    ),
    "table2": Table(
        "Number K of representative pixels of a region",
        tuple(
            Row(
                f"K = {number}",
                RANET if number == PER_REGION else f"k{number}",
                _cityscapes(miou),
                {"model.per_region": number},
            )
            for number, miou in ((2, 81.2), (4, 81.6), (6, 81.7), (8, 81.9), (10, 81.8), (12, 81.6))
        ),
    ),
    "table3": Table(
        "Attention methods and their costs",
        (
            Row(
                "Asymmetric non-local",
                "asymmetric",
                _cityscapes(81.0),
                _context("asymmetric", auxiliary=True),
                costs="asymmetric non-local",
            ),
            Row(
                "CCNet",
                "ccnet",
                _cityscapes(81.1),
                _context("ccnet", auxiliary=True),
                costs="CCNet",
            ),
            Row(
                "DANet",
                "danet",
                _cityscapes(81.5),
                _context("danet", auxiliary=True),
                costs="DANet",
            ),
            Row(
                "PSANet",
                "psanet",
                _cityscapes(80.6),
                _context("psanet", auxiliary=True),
                costs="PSANet",
            ),
            Row("RANet", RANET, _cityscapes(81.9), costs="RANet, the paper's equations"),
        ),
    ),
    "table4": Table(
        "Coarse and fine segmentation",
        (
            Row(
                "coarse segmentation",
                RANET,
                {"cityscapes": 77.3, "pascal_context": 51.2, "coco_stuff": 37.9},
                output="coarse",
            ),
            Row(
                "fine segmentation",
                RANET,
                {"cityscapes": 81.9, "pascal_context": 54.9, "coco_stuff": 40.7},
            ),
        ),
    ),
    "oracle": Table(
        "What perfect regions would give",
        (
            Row("backbone alone", "none", {}, _context("none")),
            Row("RANet", RANET, {}),
            Row("RANet, regions of the truth", "oracle", {}, oracle=True),
        ),
    ),
}
