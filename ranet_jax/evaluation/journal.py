"""Counts of an evaluation under way, kept in a file so that an interruption loses little."""

import contextlib
import dataclasses
import io
import math
from typing import Any

import numpy as np
from jaxtyping import Int64

from ranet_jax.checkpoints.steps import tell
from ranet_jax.evaluation.region_statistics import RegionCounts
from ranet_jax.files import paths, reason, replacing


@dataclasses.dataclass
class Tally:
    """Confusion matrices and numbers of images by output, for the batches counted so far.

    `regions` counts their regions, if there are any; `seconds` is how long earlier runs took.
    """

    confusion: dict[str, Int64[np.ndarray, "c c"]]
    images: dict[str, int]
    regions: RegionCounts = dataclasses.field(default_factory=RegionCounts)
    batches: int = 0
    seconds: float = 0.0

    @classmethod
    def empty(cls, outputs: tuple[str, ...], num_classes: int) -> "Tally":
        """The tally of no batch."""
        shape = (num_classes, num_classes)
        confusion = {name: np.zeros(shape, np.int64) for name in outputs}
        return cls(confusion, dict.fromkeys(outputs, 0))


@dataclasses.dataclass(frozen=True)
class Journal:
    """A file for the tally of one evaluation, which `key` distinguishes from all others."""

    path: paths.Path
    key: str

    def read(self, empty: Tally) -> Tally | None:
        """The tally that `write` left; None if there is none or it is from another evaluation.

        A file that is damaged or does not fit `empty` counts as none. Damage is reported on
        standard error.
        """
        try:
            contents = io.BytesIO(paths.read_bytes(self.path))
            with np.load(contents, allow_pickle=False) as found:
                fields = dict(found)
            if str(fields["key"]) != self.key:
                return None
            names = [str(name) for name in fields["outputs"]]
            tally = Tally(
                {name: fields[f"confusion_{name}"] for name in names},
                {name: int(fields[f"images_{name}"]) for name in names},
                RegionCounts.from_vector(fields["regions"]),
                int(fields["batches"]),
                float(fields["seconds"]),
            )
            return tally if _fits(tally, empty) else None
        except FileNotFoundError:
            return None
        except Exception as error:  # NumPy and zipfile raise whatever a damaged file leads to
            tell(
                f"{self.path} is damaged ({reason(error)}); the evaluation starts from the"
                " beginning."
            )
            return None

    def write(self, tally: Tally) -> None:
        """Replace the file in one step; if it cannot be written, the error is ignored."""
        fields: dict[str, Any] = {"key": self.key, "batches": tally.batches}
        fields["seconds"] = tally.seconds
        fields["outputs"] = list(tally.confusion)
        fields["regions"] = tally.regions.to_vector()
        fields |= {f"confusion_{name}": matrix for name, matrix in tally.confusion.items()}
        fields |= {f"images_{name}": count for name, count in tally.images.items()}
        with (
            contextlib.suppress(OSError),
            replacing(self.path) as partial,
            partial.open("wb") as file,
        ):
            np.savez(file, **fields)

    def remove(self) -> None:
        """Delete the file, if it exists and can be deleted."""
        with contextlib.suppress(OSError):
            paths.remove(self.path)


def _fits(tally: Tally, empty: Tally) -> bool:
    """Whether a tally holds valid counts for the outputs and classes of `empty`."""
    if tally.confusion.keys() != empty.confusion.keys():
        return False
    for name, matrix in tally.confusion.items():
        expected = empty.confusion[name]
        if matrix.shape != expected.shape or matrix.dtype != expected.dtype or matrix.min() < 0:
            return False
    counts = (*tally.images.values(), *tally.regions.to_vector(), tally.batches, tally.seconds)
    return all(count >= 0 for count in counts) and math.isfinite(tally.seconds)
