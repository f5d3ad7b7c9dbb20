"""The training loop: any iterator of NumPy batches in, a working directory out."""

import contextlib
import json
import math
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import tensorboardX
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from ranet_jax import checkpoints
from ranet_jax.config import check_config
from ranet_jax.errors import Interrupted, UserError
from ranet_jax.evaluation.metrics import check_labels
from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.evaluation.scoring import evaluate_batches
from ranet_jax.inference.model import make_forward
from ranet_jax.inference.probabilities import InferenceSettings
from ranet_jax.models import build_model
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.training import parallel
from ranet_jax.training.initialization import initialize
from ranet_jax.training.losses import BoundaryLoss
from ranet_jax.training.optimizer import build_optimizer
from ranet_jax.training.step import Batch, TrainState, create_state, init_variables, make_step

# Signals that end training after the step under way.
CAUGHT = (signal.SIGTERM, signal.SIGINT)


class NonFiniteLossError(UserError):
    """The loss or its gradient became NaN or infinite."""


def train(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    dataset: DatasetMetadata,
    train_batches: Callable[[int], Iterator[Batch]],
    eval_batches: Callable[[], Iterable[Batch]],
    build: Callable[[ConfigDict, int, str | None], nn.Module] = build_model,
) -> EvaluationResult:
    """Train from the working directory's latest checkpoint, or from the start, to the last step.

    Args:
      config: experiment, `ranet_jax.config.default_config` with its own values.
      workdir: directory of checkpoints, metrics and TensorBoard events.
      dataset: categories of the labels.
      train_batches: from a number of steps done to this host's batches from there on, each
        {"image": normalised float32 [b, H, W, 3], "label": uint8 [b, H, W]}.
      eval_batches: this host's evaluation batches, which have a bool "mask" [b] too.
      build: makes the segmenter of a config, a number of classes and the name of a mapped axis.

    Returns:
      The evaluation after the last step.

    Raises:
      UserError: the config does not fit the devices, the data or the working directory.
      NonFiniteLossError: a loss or gradient is not finite; nothing of these steps is saved.
      Interrupted: SIGTERM or Ctrl-C came; running the same call again goes on from there.
    """
    # ---- Set-up -------------------------------------------------------------------------------
    check_config(config)
    BoundaryLoss.from_config(config.loss)  # or an error, before anything is made
    parallel.check_batch_size(config.train, jax.device_count())
    _check_class_weights(config, dataset)
    model = build(config, dataset.num_classes, parallel.AXIS)
    init_rng, state_rng = jax.random.split(jax.random.PRNGKey(config.seed))
    variables = init_variables(model, init_rng, config.data.crop_size)
    if not checkpoints.has_checkpoint(workdir):
        variables, taken = initialize(config.model, variables)
        if taken is not None and jax.process_index() == 0:
            print(taken, flush=True)
    optimizer, schedule = build_optimizer(config.optimizer, config.train.steps, variables["params"])
    state = create_state(variables, optimizer, state_rng, config.optimizer.ema_decay is not None)
    step_function = parallel.map_step(
        make_step(model, optimizer, config, dataset.ignore_label), config.train.parallel
    )
    forward = make_forward(build(config, dataset.num_classes, None))
    settings = InferenceSettings.from_config(config)
    checkpoints.prepare_workdir(workdir, config, dataset)

    def evaluate(state: TrainState) -> EvaluationResult:
        params = state.params if state.ema_params is None else state.ema_params
        return evaluate_batches(
            forward,
            {"params": params, "batch_stats": state.batch_stats},
            eval_batches(),
            dataset,
            settings,
        )

    # ---- Resume -------------------------------------------------------------------------------
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(
            checkpoints.open_manager(workdir, config.train.keep_checkpoints)
        )
        state = checkpoints.restore_latest(manager, state)
        first = int(state.step)
        log = stack.enter_context(MetricsLog(workdir, first, config.train.steps))
        stopped_by = stack.enter_context(_catch_signals())

        # ---- Steps ----------------------------------------------------------------------------
        result: EvaluationResult | None = None
        pending: list[dict[str, Any]] = []
        batches = train_batches(first)
        for step in range(first + 1, config.train.steps + 1):
            batch = next(batches)
            check_labels(batch["label"], dataset.num_classes, dataset.ignore_label)
            state, metrics = step_function(state, batch)
            pending.append(metrics)

            last = step == config.train.steps
            stopping = stopped_by(step)
            evaluating = last or step % config.train.eval_every == 0
            saving = evaluating or stopping is not None or step % config.train.checkpoint_every == 0
            if saving or step % config.train.log_every == 0:
                log.steps(step, jax.device_get(pending), schedule, config.train.batch_size)
                pending = []
            miou = None
            if evaluating:
                result = evaluate(state)
                log.evaluation(step, result)
                miou = result.fine.miou
            if saving:
                checkpoints.save(manager, step, state, miou)
            if stopping is not None and not last:
                manager.wait_until_finished()
                raise Interrupted(
                    f"Stopped by {stopping.name} after step {step}, which is saved; run the same"
                    " command again to go on.",
                    status=128 + stopping,
                )
        manager.wait_until_finished()
    return evaluate(state) if result is None else result


def _check_class_weights(config: ConfigDict, dataset: DatasetMetadata) -> None:
    weights = config.loss.class_weights
    if weights and len(weights) != dataset.num_classes:
        raise UserError(
            f"config.loss.class_weights has {len(weights)} entries, but data set"
            f" {dataset.name!r} has {dataset.num_classes} classes; give one for each class, or ()."
        )


@contextlib.contextmanager
def _catch_signals() -> Iterator[Callable[[int], signal.Signals | None]]:
    """Yield a function of the step: the signal to stop after it for, the same on all hosts.

    That is SIGTERM or, where there is one host, the first Ctrl-C (SIGINT); a second one interrupts
    at once.
    """
    if jax.process_count() > 1:
        reached = multihost_utils.reached_preemption_sync_point
        yield lambda step: signal.SIGTERM if reached(step) else None
        return
    received: list[signal.Signals] = []

    def receive(number: int, frame: object) -> None:
        if number == signal.SIGINT:
            if received:
                raise KeyboardInterrupt
            tqdm.write("Stopping after this step; Ctrl-C again stops at once.", file=sys.stderr)
        received.append(signal.Signals(number))

    previous = {number: signal.signal(number, receive) for number in CAUGHT}
    try:
        yield lambda step: received[0] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _drop_lines_after(path: pathlib.Path, step: int) -> None:
    """Keep the records up to a step; a last line that was cut off has no newline and goes too."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    try:
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} holds a line that is no record of training ({error!r}); mend it, or move the"
            " file away."
        ) from error
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(kept))
    os.replace(partial, path)


class MetricsLog:
    """`metrics.jsonl` (a line a step, a line an evaluation), TensorBoard and the progress bar.

    Lines after the step to resume from are dropped, so that a resumed run leaves the same record
    as one that was never cut off. Only the first host writes.
    """

    def __init__(self, workdir: str | pathlib.Path, first: int, steps: int):
        self._first_host = jax.process_index() == 0
        self._bar = tqdm(
            total=steps, initial=first, unit="step", desc="train", disable=not self._first_host
        )
        self._time, self._step = time.monotonic(), first
        if not self._first_host:
            return
        path = pathlib.Path(workdir) / "metrics.jsonl"
        _drop_lines_after(path, first)
        self._file = path.open("a")
        self._board = tensorboardX.SummaryWriter(
            str(pathlib.Path(workdir) / "tensorboard"), purge_step=first + 1
        )

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        if self._first_host:
            self._file.close()
            self._board.close()

    def steps(
        self, step: int, metrics: list[dict[str, np.ndarray]], schedule: Any, batch_size: int
    ) -> None:
        """Record the steps up to and with `step`.

        Raises:
          NonFiniteLossError: one of their losses or gradients is not finite.
        """
        now = time.monotonic()
        speed = batch_size * (step - self._step) / max(now - self._time, 1e-9)
        self._time, self._step = now, step
        start = step - len(metrics) + 1
        for number, values in enumerate(metrics, start):
            wrong = [name for name, value in values.items() if not np.isfinite(value)]
            if wrong:
                raise NonFiniteLossError(
                    f"Not finite at step {number} (of steps {start} to {step}):"
                    f" {', '.join(wrong)}; lower config.optimizer.learning_rate, set"
                    " config.optimizer.clip_norm, or look at the data of that step."
                )
        loss = np.mean([values["loss"] for values in metrics])
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix_str(f"loss {loss:.3f}, {speed:.1f} images/s")
        if not self._first_host:
            return
        for number, values in enumerate(metrics, start):
            record = {name: float(value) for name, value in values.items()}
            record["learning_rate"] = float(schedule(number - 1))
            self._write({"step": number, **record})
            for name, value in record.items():
                self._board.add_scalar(f"train/{name}", value, number)
        self._board.add_scalar("train/images_per_second", speed, step)
        self._file.flush()

    def evaluation(self, step: int, result: EvaluationResult) -> None:
        """Record the scores of an evaluation; tell of regions that are of no use."""
        record = {"fine_miou": result.fine.miou, "fine_accuracy": result.fine.pixel_accuracy}
        if result.coarse is not None:
            record["coarse_miou"] = result.coarse.miou
        shown = ", ".join(f"{name} {value:.4f}" for name, value in record.items())
        warning = None
        if result.regions is not None:
            shown, warning = f"{shown}, {result.regions.summary()}", result.regions.warning()
            values = result.regions.values()
            record |= {name: value for name, value in values.items() if math.isfinite(value)}
        if self._first_host:
            self._write({"step": step, **record})
            for name, value in record.items():
                self._board.add_scalar(f"eval/{name}", value, step)
            self._file.flush()
            self._bar.write(f"step {step}: {shown}")
            if warning is not None:
                self._bar.write(f"ranet: {warning}", file=sys.stderr)
        self._time = time.monotonic()

    def _write(self, record: dict[str, int | float]) -> None:
        self._file.write(json.dumps(record) + "\n")
