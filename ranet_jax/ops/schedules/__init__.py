"""Orders in which Eqs. 1-5 go over the pairs of pixels, one for each kind of machine.

name       made for  a step takes the pairs
streaming  CPUs      of one offset (d, e): slices of maps that fit the cache (`windows`)
planes     GPUs      d rows apart: tables that are large and few, and so are launches
kernel     TPUs      d rows apart, and keeps them on the chip: a Pallas kernel
"""

from typing import Any

from ranet_jax.ops.schedules.kernel import kernel_schedule
from ranet_jax.ops.schedules.planes import PLANES
from ranet_jax.ops.schedules.platforms import by_platform
from ranet_jax.ops.schedules.schedule import RESULTS, Inputs, Schedule
from ranet_jax.ops.schedules.windows import WINDOWS


def _by_platform(default: Schedule, **others: Schedule) -> Schedule:
    """For each pass the schedule of the platform that a program is compiled for."""

    def choose(name: str) -> Any:
        choices = {platform: getattr(schedule, name) for platform, schedule in others.items()}
        return by_platform(RESULTS[name], getattr(default, name), **choices)

    return Schedule(*map(choose, Schedule._fields))


_KERNEL = kernel_schedule(interpret=False)
SCHEDULES = {
    "streaming": WINDOWS,
    "planes": PLANES,
    "kernel": _by_platform(kernel_schedule(interpret=True), tpu=_KERNEL),
}
_AUTO = _by_platform(PLANES, cpu=WINDOWS, tpu=_KERNEL)


def choose_schedule(name: str) -> Schedule:
    """The schedule of a name, or with "auto" that of the platform a program is compiled for.

    Raises:
      ValueError: there is no schedule of that name.
    """
    if name == "auto":
        return _AUTO
    if name not in SCHEDULES:
        raise ValueError(f"schedule is {name!r}; choose one of {('auto', *SCHEDULES)}")
    return SCHEDULES[name]


__all__ = ["SCHEDULES", "Inputs", "Schedule", "choose_schedule"]
