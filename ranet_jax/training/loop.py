"""The training loop: any iterator of NumPy batches in, a working directory out."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from ranet_jax import checkpoints
from ranet_jax.checkpoints.steps import Manager, tell
from ranet_jax.display import output
from ranet_jax.errors import UserError
from ranet_jax.evaluation.result import EvaluationResult
from ranet_jax.evaluation.scoring import evaluate_batches
from ranet_jax.files import explained, reason
from ranet_jax.files.mirror import Mirror, mirrored
from ranet_jax.files.paths import Path, as_path
from ranet_jax.inference.forward import make_forward
from ranet_jax.inference.settings import InferenceSettings
from ranet_jax.models import build_model
from ranet_jax.pipeline.batching import Batch
from ranet_jax.pipeline.labels import check_labels
from ranet_jax.pipeline.metadata import DatasetMetadata
from ranet_jax.pipeline.normalization import Normalization
from ranet_jax.training import parallel
from ranet_jax.training.devices import check_devices, describe_devices
from ranet_jax.training.initialization import check_start, initialize
from ranet_jax.training.lock import locked
from ranet_jax.training.optimizer import build_optimizer
from ranet_jax.training.records import MetricsLog, check_records
from ranet_jax.training.signals import Stop, catch_signals, interrupted
from ranet_jax.training.step import (
    TrainState,
    check_training,
    create_state,
    init_variables,
    make_step,
)
from ranet_jax.training.timing import Profile, Stopwatch

# Parts of a working directory that may be large and are not read to resume.
NOT_COPIED = ("tensorboard", "profile")


def train(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    dataset: DatasetMetadata,
    train_batches: Callable[[int], Iterator[Batch]],
    eval_batches: Callable[[], Iterable[Batch]],
    build: Callable[[ConfigDict, int, str | None], nn.Module] = build_model,
    profile: tuple[int, int] | None = None,
) -> EvaluationResult:
    """Train from the working directory's latest checkpoint, or from the start, to the last step.

    With `config.train.patience`, training ends early when the recorded scores stop improving.

    Args:
      config: experiment, `ranet_jax.config.default_config` with its own values.
      workdir: directory of checkpoints, metrics and TensorBoard events. If it is on an object
        store, each host has a copy in its directory for temporary files, and the first host sends
        its copy with each checkpoint and at the end.
      dataset: categories of the labels.
      train_batches: called with the number of steps done; gives this host's batches from there on,
        each {"image": normalised float32 [b, H, W, 3], "label": uint8 [b, H, W]}.
      eval_batches: gives this host's evaluation batches, which also have a bool "mask" [b].
      build: builds the segmenter from a config, a number of classes and the name of a mapped axis.
      profile: first step of a trace for XProf in `WORKDIR/profile`, and the step before which the
        trace ends.

    Returns:
      The evaluation after the last step that was run.

    Raises:
      UserError: the config does not fit the devices, the data or the working directory.
      NonFiniteLossError: a loss or gradient is not finite; nothing of these steps is saved.
      Interrupted: SIGTERM or Ctrl-C was received; repeat the same call to resume.
    """
    with contextlib.ExitStack() as stack:
        # ---- Set-up ---------------------------------------------------------------------------
        place = as_path(workdir)
        stop = stack.enter_context(catch_signals())
        check_devices()
        mirror = stack.enter_context(mirrored(place, checkpoints.MANIFEST, NOT_COPIED))
        workdir, mirror.sends = mirror.local, jax.process_index() == 0
        check_training(config, jax.device_count())
        _check_class_weights(config, dataset)
        checkpoints.check_workdir(workdir, config, dataset)
        check_records(workdir)
        if not checkpoints.has_checkpoint(workdir):
            check_start(config.model)
        model = build(config, dataset.num_classes, parallel.AXIS)
        init_rng, state_rng = jax.random.split(jax.random.PRNGKey(config.seed))
        variables = init_variables(model, init_rng, config.data.crop_size)
        taken = None
        if not checkpoints.has_checkpoint(workdir):
            variables, taken = initialize(config.model, variables)
        if jax.process_index() == 0:
            output.tell("\n".join([describe_devices(config), *([taken] if taken else [])]))
        optimizer, schedule = build_optimizer(
            config.optimizer, config.train.steps, variables["params"]
        )
        state = create_state(
            variables, optimizer, state_rng, config.optimizer.ema_decay is not None
        )
        step_function = parallel.map_step(
            make_step(model, optimizer, config, dataset.ignore_label), config.train.parallel
        )
        forward = make_forward(build(config, dataset.num_classes, None))
        settings = InferenceSettings.from_config(config)

        # ---- Resume ---------------------------------------------------------------------------
        mirror.check = stack.enter_context(locked(place))
        stack.callback(mirror.close)  # while the lock is held
        mirror.check_unchanged()
        checkpoints.prepare_workdir(workdir, config, dataset)
        manager = stack.enter_context(
            checkpoints.open_manager(
                workdir, config.train.keep_checkpoints, lambda: _send(mirror, place)
            )
        )
        state = checkpoints.restore_latest(manager, state)
        first, last, patience = int(state.step), config.train.steps, config.train.patience
        trace = stack.enter_context(Profile(workdir, profile, first, last))
        with _records_explained(manager):
            log = stack.enter_context(MetricsLog(workdir, first, last))
        stack.enter_context(stop.defer())

        def evaluate(step: int, state: TrainState) -> EvaluationResult:
            params = state.params if state.ema_params is None else state.ema_params
            return evaluate_batches(
                forward,
                {"params": params, "batch_stats": state.batch_stats},
                _until(stop, step, eval_batches()),
                dataset,
                settings,
            )

        def score(step: int, state: TrainState) -> EvaluationResult:
            """Evaluate a saved step, and record its scores."""
            from ranet_jax.evaluation.sample_sheet import sample_sheet

            result = evaluate(step, state)
            samples = sample_sheet(result, Normalization.from_config(config.data))
            manager.record_score(step, result.fine.miou)
            with _records_explained(manager):
                log.evaluation(step, result, samples)
            _send(mirror, place)
            return result

        def is_exhausted(step: int) -> bool:
            """Whether the evaluations up to a step used up the patience; if so, report it."""
            if patience == 0 or step == last:
                return False
            waited = checkpoints.from_first_host(log.evaluations_since_best(step))
            if waited < patience:
                return False
            if jax.process_index() == 0:
                output.note(
                    f"Training stops after step {step} of {last}, as the mean IoU did not improve"
                    f" in {waited} evaluations in a row (config.train.patience is {patience})."
                )
            return True

        # ---- Steps ----------------------------------------------------------------------------
        result: EvaluationResult | None = None
        is_scored = checkpoints.from_first_host(log.has_evaluation(first))
        if _is_evaluated(first, config.train) and not is_scored:
            result = score(first, state)  # an earlier run ended before it was scored
        if is_exhausted(first):
            last = first
        pending: list[dict[str, Any]] = []
        batches, watch = train_batches(first), Stopwatch()
        for step in range(first + 1, last + 1):
            trace.before(step, pending)
            asked = time.monotonic()
            batch = next(batches)
            watch.got_input(asked)
            check_labels(batch["label"], dataset.num_classes, dataset.ignore_label)
            state, metrics = step_function(state, batch)
            pending.append(metrics)
            jax.block_until_ready(pending[-2:-1])  # no more than two steps are under way

            stopping = stop.after(step)
            evaluating = _is_evaluated(step, config.train)
            saving = evaluating or stopping is not None or step % config.train.checkpoint_every == 0
            if saving or step % config.train.log_every == 0:
                metrics, pending = jax.device_get(pending), []
                note = watch.slowest()
                with _records_explained(manager):
                    log.steps(step, metrics, schedule, config.train.batch_size, note)
            if saving:
                checkpoints.save(manager, step, state)
            if stopping is not None or evaluating:
                manager.wait_until_finished()
                checkpoints.from_first_host(step)  # all wait until the first host has saved
            if stopping is not None:
                raise interrupted(stopping, f" after step {step}, which is saved")
            if evaluating:
                result = score(step, state)
                if is_exhausted(step):
                    last = step
                    break
                watch.begin()
        manager.wait_until_finished()
        return evaluate(last, state) if result is None else result


def _send(mirror: Mirror, place: Path) -> None:
    """Send what is new in the working directory; if that fails, the next call sends it, too."""
    try:
        mirror.send()
    except OSError as error:
        tell(
            f"{place} cannot be written ({reason(error)}); training continues, and the"
            " missing files are sent with the next checkpoint."
        )


def _is_evaluated(step: int, train: ConfigDict) -> bool:
    return step == train.steps or (step > 0 and step % train.eval_every == 0)


def _until(stop: Stop, step: int, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches to evaluate until a signal comes; the saved step is then scored later."""
    for batch in batches:
        stop.check(f" after step {step}, which is saved")
        yield batch


@contextlib.contextmanager
def _records_explained(manager: Manager) -> Iterator[None]:
    """Explain an `OSError` in writing records: say what is saved, and how to go on."""
    with explained(f"The records of {manager.directory.parent}", manager.what_to_do()):
        yield


def _check_class_weights(config: ConfigDict, dataset: DatasetMetadata) -> None:
    weights = config.loss.class_weights
    if weights and len(weights) != dataset.num_classes:
        raise UserError(
            f"config.loss.class_weights has {len(weights)} entries, but data set"
            f" {dataset.name!r} has {dataset.num_classes} classes; give one for each class, or ()."
        )
    if weights and not any(weights):
        raise UserError(
            "config.loss.class_weights are all 0, so that nothing is learned; give classes weights"
            " above 0, or () to weight all equally."
        )
