"""Orders in which Eqs. 1-5 go over the pairs of pixels, one for each kind of machine.

name       made for  a step takes the pairs
streaming  CPUs      of one offset (d, e): slices of maps that fit the cache (`windows`)
planes     GPUs      d rows apart: tables that are large and few, and so are launches
kernel     TPUs      d rows apart, and keeps them on the chip: a Pallas kernel
"""

from typing import Any

import jax

from ranet_jax.ops.schedules.kernel import KERNEL
from ranet_jax.ops.schedules.planes import PLANES
from ranet_jax.ops.schedules.schedule import Inputs, Schedule
from ranet_jax.ops.schedules.windows import WINDOWS

SCHEDULES = {"streaming": WINDOWS, "planes": PLANES, "kernel": KERNEL}


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


def _on_platform(name: str) -> Any:
    """One pass, by the schedule of the platform."""
    windows, planes, kernel = (getattr(each, name) for each in (WINDOWS, PLANES, KERNEL))

    def run(*arguments: Any) -> Any:
        return jax.lax.platform_dependent(*arguments, cpu=windows, tpu=kernel, default=planes)

    return run


_AUTO = Schedule(*map(_on_platform, Schedule._fields))

__all__ = ["SCHEDULES", "Inputs", "Schedule", "choose_schedule"]
