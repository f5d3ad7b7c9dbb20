"""Orders in which Eqs. 1-5 go over the pairs of pixels, one for each kind of machine.

name       made for  one step handles the pairs
streaming  CPUs      at one offset (d, e): slices of maps that fit in the cache (`windows`)
planes     GPUs      d rows apart: a few large tables, and therefore few kernel launches
kernel     TPUs      d rows apart, kept on the chip by a Pallas kernel
"""

from typing import Any

from ranet_jax.ops.schedules.kernel import kernel_schedule
from ranet_jax.ops.schedules.planes import PLANES
from ranet_jax.ops.schedules.platforms import by_platform
from ranet_jax.ops.schedules.schedule import RESULTS, Inputs, Schedule
from ranet_jax.ops.schedules.windows import WINDOWS


def _by_platform(default: Schedule, **others: Schedule) -> Schedule:
    """A schedule whose passes are those of the platform that a program is compiled for."""

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
    """Return the schedule of a name; "auto" selects by the platform a program is compiled for.

    Raises:
      ValueError: there is no schedule of that name.
    """
    if name == "auto":
        return _AUTO
    if name not in SCHEDULES:
        raise ValueError(f"schedule is {name!r}; choose one of {('auto', *SCHEDULES)}")
    return SCHEDULES[name]


__all__ = ["SCHEDULES", "Inputs", "Schedule", "choose_schedule"]
