"""Time the first steps and an evaluation of a config on this machine."""

import contextlib
import statistics
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

from ranet_jax.errors import UserError
from ranet_jax.evaluation.scoring import evaluate_batches
from ranet_jax.inference.forward import make_forward
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.models import build_model
from ranet_jax.pipeline.batching import Batch
from ranet_jax.pipeline.training_data import TrainingData
from ranet_jax.training.local_step import build_step
from ranet_jax.training.timing import timed

# Numbers of steps after the first. Only the last half of them counts: by then, the batches that
# were ready at the start are used up.
LEAST_STEPS, MOST_STEPS = 2, 40
# Loading a cached program takes about a tenth of the time of compiling it; plans allow for twice
# as much.
LOADING = 0.2


class StepPace(NamedTuple):
    """Seconds to build a network, to compile and run its first step, and to run a later step."""

    build_seconds: float
    compile_seconds: float
    step_seconds: float
    variables: Any


def measure_steps(
    config: ConfigDict, data: TrainingData, limit: float
) -> tuple[StepPace, ConfigDict]:
    """Time the first steps of a training; a batch that does not fit into memory is halved.

    Args:
      config: experiment.
      data: data to train on.
      limit: seconds after which no further step begins, once `LEAST_STEPS` are done.

    Returns:
      The times, and the config with the batch size that fits.

    Raises:
      UserError: not even one crop per device fits, or the config is not valid for training.
    """
    while True:
        try:
            return _steps(config, data, limit), config
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
        config = config.copy_and_resolve_references()
        half = config.train.batch_size // 2
        if half == 0 or half % jax.device_count():
            raise UserError(
                f"A crop of {config.data.crop_size[0]} x {config.data.crop_size[1]} pixels does not"
                " fit into the device's memory; set a smaller config.data.crop_size."
            )
        config.train.batch_size = half


def _steps(config: ConfigDict, data: TrainingData, limit: float) -> StepPace:
    batches = iter(data.train_batches(0))
    build_seconds, (variables, step) = timed(lambda: build_step(config, data.dataset.num_classes))
    # The training itself has another number of steps, so its step is not in JAX's program cache.
    with _compiling_anew():
        compile_seconds, _ = timed(lambda: step(_cut(next(batches), config)))
    seconds: list[float] = []
    while len(seconds) < LEAST_STEPS or (sum(seconds) < limit and len(seconds) < MOST_STEPS):
        seconds.append(timed(lambda: step(_cut(next(batches), config)))[0])
    step_seconds = statistics.mean(seconds[len(seconds) // 2 :])
    return StepPace(build_seconds, compile_seconds, step_seconds, variables)


def _cut(batch: Batch, config: ConfigDict) -> Batch:
    """Cut a batch to the config's batch size, which may have been halved."""
    return {name: array[: config.train.batch_size] for name, array in batch.items()}


@contextlib.contextmanager
def _compiling_anew() -> Iterator[None]:
    """Context in which JAX's cache of compiled programs is neither read nor written."""

    def switch(enabled: bool) -> None:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()

    enabled = jax.config.values["jax_enable_compilation_cache"]
    switch(False)
    try:
        yield
    finally:
        switch(enabled)


def loading_share() -> float:
    """Share of its compile time that a program takes when it is compiled a second time."""
    keeps = jax.config.values["jax_enable_compilation_cache"]
    return LOADING if keeps and jax.config.values["jax_compilation_cache_dir"] else 1.0


class EvaluationPace(NamedTuple):
    """Seconds to compile for one image size, and seconds per image after that."""

    compile_seconds: float
    image_seconds: float


def measure_evaluation(
    config: ConfigDict, data: TrainingData, variables: Any, limit: float
) -> EvaluationPace:
    """Time the evaluation of the first batches, at least one.

    Args:
      config: experiment.
      data: data to score.
      variables: variables of the config's network.
      limit: seconds after which no further batch begins.
    """
    forward = make_forward(build_model(config, data.dataset.num_classes, None))
    settings = InferenceSettings.from_config(config)
    clock = _Clock(data.eval_batches(), limit)
    evaluate_batches(forward, variables, clock, data.dataset, settings, progress=False)
    return clock.pace()


class _Clock:
    """Yields batches, the first of each shape twice, and times each until the next is requested."""

    def __init__(self, batches: Iterable[Batch], limit: float):
        self._batches, self._limit = batches, limit
        self._compiling: list[float] = []
        self._seconds, self._images = 0.0, 0

    def __iter__(self) -> Iterator[Batch]:
        seen: set[tuple[int, ...]] = set()
        for batch in self._batches:
            first = None
            if batch["image"].shape not in seen:
                seen.add(batch["image"].shape)
                start = time.perf_counter()
                yield batch
                first = time.perf_counter() - start
            start = time.perf_counter()
            yield batch
            seconds = time.perf_counter() - start
            if first is not None:
                self._compiling.append(max(0.0, first - seconds))
            self._seconds += seconds
            self._images += int(np.sum(batch["mask"]))
            if self._seconds + sum(self._compiling) > self._limit:
                return

    def pace(self) -> EvaluationPace:
        """Mean seconds of compiling for a shape, and of an image."""
        compiling = statistics.mean(self._compiling) if self._compiling else 0.0
        return EvaluationPace(compiling, self._seconds / max(1, self._images))
