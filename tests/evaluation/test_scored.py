"""Remarks about the weights that were scored."""

import numpy as np
import pytest

from helpers.fakes import brightest_channel_model
from ranet_jax.checkpoints import open_manager, save
from ranet_jax.evaluation.scored import ScoredWeights, find_scored


@pytest.mark.parametrize(
    "step, best, last, remark",
    [
        (20, 20, 20, " (the best by mIoU and the last)"),
        (20, 20, 30, " (the best by mIoU; the last is step 30)"),
        (30, 20, 30, " (the last; the best by mIoU is step 20)"),
        (10, 20, 30, " (the best by mIoU is step 20, the last is step 30)"),
        (30, None, 30, " (the last)"),
    ],
)
def test_best_and_last_are_told(tmp_path, step, best, last, remark):
    assert str(ScoredWeights(tmp_path, step, best, last)) == f"step {step} of {tmp_path}{remark}"


def test_best_and_last_are_those_of_the_run(tmp_path):
    model = brightest_channel_model()
    with open_manager(tmp_path, keep=3) as manager:
        for step, miou in ((10, 0.2), (20, 0.6), (30, 0.4)):
            save(manager, step, {"x": np.zeros(1)}, miou)
    for path, step in ((tmp_path, 20), (tmp_path / "checkpoints" / "10", 10)):
        model.step = step
        assert find_scored(path, model) == ScoredWeights(tmp_path, step, best=20, last=30)


def test_an_exported_model_has_no_steps(tmp_path):
    model = brightest_channel_model()
    assert find_scored(tmp_path, model) == ScoredWeights(tmp_path)
    assert str(find_scored(tmp_path, model)) == f"the exported model {tmp_path}"
