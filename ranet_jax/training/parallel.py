"""One per-device step over all devices, by `jax.pmap` or `jax.shard_map`.

A step is a pure function `step(state, batch) -> (state, metrics)` of one device's part of the
batch that refers to the axis "data". State and metrics are the same on every device; the state
is passed and returned without a device axis, and is donated: the step updates it in place, so the
arrays passed are gone afterwards. With shard_map the replication check is off
(`check_vma=False`): otherwise, a gradient taken inside the step would be summed over devices one
more time than under pmap.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from ranet_jax.config import check_value
from ranet_jax.errors import UserError

AXIS = "data"

Step = Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]


def check_batch_size(train: ConfigDict, devices: int) -> None:
    """Raise `UserError` unless the batch size is divisible by devices times microbatches."""
    multiple = devices * train.microbatches
    if train.batch_size % multiple:
        raise UserError(
            f"config.train.batch_size {train.batch_size} is not divisible by {devices} devices"
            f" x {train.microbatches} microbatches; choose a multiple of {multiple}."
        )


def count_parts(share: int, train: ConfigDict) -> int:
    """Number of parts into which a device splits its share of the batch: the fewest allowed.

    `share` is in crops. The parts have the same size. There are at least `train.microbatches` of
    them, and none has more than `train.max_device_batch` crops, if that is set.
    """
    most = train.max_device_batch or share
    return next(
        parts
        for parts in range(train.microbatches, share + 1)
        if share % parts == 0 and share // parts <= most
    )


def map_step(step: Step, mode: str, devices: Sequence[jax.Device] | None = None) -> Step:
    """Compile `step` over `devices` (all by default); it then takes this host's whole batch.

    The state passed to it is donated: use the state that it returns, or a copy made beforehand.

    Raises:
      UserError: `mode` is not one of its choices or, when called, the batch is not divisible by the
        devices.
    """
    devices = tuple(devices or jax.devices())
    local_devices = [d for d in devices if d.process_index == jax.process_index()]
    local = len(local_devices)
    mapped = _mapped(step, mode, devices)
    if mode == "pmap":
        holders = Mesh(np.array(local_devices), (AXIS,))

        def place(batch: dict[str, np.ndarray]) -> dict[str, Any]:
            return {k: x.reshape(local, -1, *x.shape[1:]) for k, x in batch.items()}

    else:
        holders = Mesh(np.array(devices), (AXIS,))
        sharding = NamedSharding(holders, PartitionSpec(AXIS))

        def place(batch: dict[str, np.ndarray]) -> dict[str, Any]:
            return {
                k: jax.make_array_from_process_local_data(sharding, x) for k, x in batch.items()
            }

    # The placement of the state that a step returns. A fresh state is put there first, so that the
    # second step needs no second compilation.
    replicated = NamedSharding(holders, PartitionSpec())

    def call(state: Any, batch: dict[str, np.ndarray]) -> tuple[Any, dict[str, Any]]:
        for name, array in batch.items():
            if len(array) % local:
                raise UserError(
                    f"A batch of {len(array)} ({name}) is not divisible by this host's {local}"
                    " devices; set config.train.batch_size to a multiple of the number of all"
                    " devices."
                )
        return mapped(jax.device_put(state, replicated), place(batch))

    return call


def lower_step(
    step: Step,
    mode: str,
    devices: Sequence[jax.Device],
    state: Any,
    batch: dict[str, jax.ShapeDtypeStruct],
) -> jax.stages.Lowered:
    """Lower `step`, mapped as by `map_step`, for devices that need not be present.

    Args:
      step: as for `map_step`.
      mode: as for `map_step`.
      devices: all devices that share the batch, whose size is divisible by their number.
      state: shapes of the state.
      batch: shapes of the whole batch.

    Raises:
      UserError: `mode` is not one of its choices.
    """
    count = len(devices)
    mapped = _mapped(step, mode, tuple(devices))
    if mode == "pmap":
        batch = {
            k: jax.ShapeDtypeStruct((count, x.shape[0] // count, *x.shape[1:]), x.dtype)
            for k, x in batch.items()
        }
    return mapped.lower(state, batch)


def _mapped(step: Step, mode: str, devices: tuple[jax.Device, ...]) -> Any:
    """The step mapped over devices; under pmap, the first axis of its batch is the devices."""
    check_value("train.parallel", mode)
    if mode == "pmap":
        return jax.pmap(
            step,
            AXIS,
            in_axes=(None, 0),
            out_axes=None,
            donate_argnums=0,
            devices=devices if jax.process_count() == 1 else None,
        )
    return jax.jit(
        jax.shard_map(
            step,
            mesh=Mesh(np.array(devices), (AXIS,)),
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
            check_vma=False,
        ),
        donate_argnums=0,
    )
