"""Which weights an evaluation scored: a step of a run, or an exported model."""

import dataclasses
from typing import Any

from ranet_jax.checkpoints import workdir_of
from ranet_jax.checkpoints.steps import best_step, read_scores
from ranet_jax.files.paths import Path
from ranet_jax.inference.model import Model


@dataclasses.dataclass(frozen=True)
class ScoredWeights:
    """Weights of `step` of the run in `directory`, and the run's best and last steps.

    `step` is None for an exported model; `best` is None if no checkpoint of the run has a mIoU.
    """

    directory: Path
    step: int | None = None
    best: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        if self.step is None:
            return f"the exported model {self.directory}"
        names, others = [], []
        for name, step in (("the best by mIoU", self.best), ("the last", self.last)):
            if step == self.step:
                names.append(name)
            elif step is not None:
                others.append(f"{name} is step {step}")
        remark = "; ".join(filter(None, [" and ".join(names), ", ".join(others)]))
        return f"step {self.step} of {self.directory}" + (f" ({remark})" if remark else "")

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary: the directory, and the steps, None where there is none."""
        steps = {"step": self.step, "best_step": self.best, "last_step": self.last}
        return {"directory": str(self.directory), **steps}


def find_scored(path: Path, model: Model) -> ScoredWeights:
    """The weights that `load(path)` gave to a model; the path must be absolute."""
    workdir = workdir_of(path)
    if model.step is None:
        return ScoredWeights(workdir)
    scores, _ = read_scores(workdir / "checkpoints")
    return ScoredWeights(workdir, model.step, best_step(scores), max(scores, default=None))
