"""Describe the devices of a training, and refuse the CPU in a job that has accelerators."""

import collections
import os
from collections.abc import Mapping

import jax
from ml_collections import ConfigDict

from ranet_jax.errors import UserError

# Variables by which drivers, containers and schedulers give a job accelerators.
_GPUS = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_TPUS = ("TPU_NAME", "TPU_WORKER_ID", "TPU_ACCELERATOR_TYPE", "TPU_WORKER_HOSTNAMES")
_NO_DEVICE = ("", "-1", "none", "void", "NoDevFiles")


def check_devices(environment: Mapping[str, str] | None = None) -> None:
    """Refuse to train on CPUs if the environment says that the job was given accelerators.

    Args:
      environment: variables by name, `os.environ` by default.

    Raises:
      UserError: JAX finds only CPUs, and JAX_PLATFORMS does not ask for them.
    """
    environment = os.environ if environment is None else environment
    if jax.default_backend() != "cpu" or "cpu" in environment.get("JAX_PLATFORMS", "").split(","):
        return
    for name, value in environment.items():
        given = _gives(name, value)
        if given is not None:
            raise UserError(
                f"JAX finds no accelerator, though {name}={value} gives this job {given}s; install"
                f" JAX for them ({'cuda' if given == 'GPU' else 'tpu'} in docs/install.md), or set"
                " JAX_PLATFORMS=cpu to train on the CPU."
            )


def _gives(name: str, value: str) -> str | None:
    """The kind of accelerator that a variable gives the job, or None."""
    if name in _TPUS and value:
        return "TPU"
    if name in _GPUS and value.strip() not in _NO_DEVICE:
        return "GPU"
    if name.startswith("SLURM_GPUS") and value.strip() not in ("", "0"):  # how many GPUs
        return "GPU"
    return None


def describe_devices(config: ConfigDict) -> str:
    """What a training runs on, in one line.

    For two processes with four GPUs each:

        training on 8 x NVIDIA H100 of 2 processes, bfloat16, 16 images a step
    """
    kinds = collections.Counter(device.device_kind for device in jax.devices())
    devices = " and ".join(f"{count} x {kind}" for kind, count in kinds.items())
    count = jax.process_count()
    processes = "1 process" if count == 1 else f"{count} processes"
    return (
        f"training on {devices} of {processes}, {config.model.dtype},"
        f" {config.train.batch_size} images a step"
    )
