"""Absent machines, by name, that programs can be compiled for.

Both compilers run on any Linux machine: NVIDIA's part of XLA needs a description of the chip, the
TPU's compiler the name of a topology. Nothing is run, and no device of this machine is touched.
"""

import atexit
import dataclasses
import functools
import importlib.util
import os
import pathlib
import re
import shutil
import tempfile
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from ranet_jax.errors import UserError, first_sentence
from ranet_jax.training.parallel import AXIS

CHOICES = (
    "h100, or h100:2 to h100:8 for several in one machine, or a TPU's generation and its chips,"
    " such as v4:2x2x1, v5e:2x2, v5e:16x16, v5p:2x2x1 or v6e:2x2"
)
INSTALL = "pip install -r requirements-aot.txt, or the extra: pip install 'ranet_jax[aot]'"

# Bytes of a TPU chip's memory by generation, according to its compiler.
TPU_MEMORY = {"v4": 32 * 2**30, "v5e": 16 * 2**30, "v5p": 96 * 2**30, "v6e": 63 * 2**29}
# Chips with two cores that programs use as one.
MEGACORE = ("v4", "v5p")
# Bundles that still run after a branch, in the instruction sets of the TPUs.
DELAY_SLOTS = {"v4": 1, "v5e": 4, "v5p": 4, "v6e": 4}

H100_MEMORY = 84_929_347_584
# The H100 SXM as XLA describes a GPU: numbers of threads, memory in bytes, bandwidth in bytes per
# second. A GpuTargetConfigProto in text form.
H100 = f"""
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 12 minor: 9 }}
gpu_device_info {{
  cuda_compute_capability {{ major: 9 minor: 0 }}
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_block: {48 * 2**10}
  shared_memory_per_block_optin: {227 * 2**10}
  shared_memory_per_core: {228 * 2**10}
  l2_cache_size: {50 * 2**20}
  device_memory_size: {H100_MEMORY}
  memory_bandwidth: 3352320000000
}}
"""


@dataclasses.dataclass(frozen=True)
class Target:
    """An absent machine: its devices, and what is needed to compile for them.

    `platform` is "gpu" or "tpu", `memory_bytes` the memory of one device. `schedules` is the
    directory to which the TPU's compiler writes the instructions of what it compiles, None for a
    GPU; `delay_slots` is how many bundles of instructions still run after a branch. `generation` is
    that of a TPU, such as "v5e", and `sides` are the lengths of its slice in chips.
    """

    name: str
    platform: str
    devices: tuple[jax.Device, ...]
    memory_bytes: int
    compiler_options: dict[str, bool]
    schedules: pathlib.Path | None = None
    delay_slots: int = 0
    generation: str = ""
    sides: tuple[int, ...] = ()

    @property
    def device_kind(self) -> str:
        """The chip's name, as JAX shows it."""
        return self.devices[0].device_kind

    def mesh(self, count: int | None = None) -> Mesh:
        """The first devices (all by default) along the axis of the batch."""
        return Mesh(np.array(self.devices[:count]), (AXIS,))


def open_target(name: str) -> Target:
    """Open the absent machine with a name such as `h100`, `h100:8`, `v5e:2x2` or `v5e:16x16`.

    From here on, JAX uses only this machine's CPU and no compilation cache.

    Raises:
      UserError: the name is not a target, or its compiler is not installed.
    """
    gpus = re.fullmatch(r"h100(?::([1-8]))?", name)
    chips = re.fullmatch(r"(v4|v5e|v5p|v6e):(\d+(?:x\d+){1,2})", name)
    if gpus:
        return _open_h100(name, int(gpus[1] or 1))
    if chips:
        return _open_tpu(name, chips[1], [int(length) for length in chips[2].split("x")])
    raise UserError(f"Target {name!r} is unknown; choose {CHOICES}.")


def _open_h100(name: str, count: int) -> Target:
    if not (_installed("jax_plugins.xla_cuda12") or _installed("jax_plugins.xla_cuda13")):
        raise UserError(f"Target {name} needs JAX's CUDA plugin, which is missing: {INSTALL}.")
    _prepare_process()
    devices = _devices(name, "cuda", target_config=H100, topology=f"1x1x{count}")
    # Triton's matrix products need tiles that are chosen by timing, and nothing can be timed here.
    options = {"xla_gpu_enable_triton_gemm": False}
    return Target(name, "gpu", devices, H100_MEMORY, options)


def _open_tpu(name: str, generation: str, sides: list[int]) -> Target:
    if not (_installed("libtpu") or os.environ.get("TPU_LIBRARY_PATH")):
        raise UserError(f"Target {name} needs libtpu, which is missing: {INSTALL}.")
    _prepare_process()
    schedules = _schedule_directory()  # before the compiler starts
    # A host has two by two chips, or fewer where the machine is smaller.
    host = (min(sides[0], 2), min(sides[1], 2), 1)
    options: dict[str, Any] = {"chips_per_host_bounds": host}
    if generation in MEGACORE:
        options["chip_config_name"] = "megacore"
    devices = _devices(name, "tpu", **options)
    memory, slots = TPU_MEMORY[generation], DELAY_SLOTS[generation]
    return Target(name, "tpu", devices, memory, {}, schedules, slots, generation, tuple(sides))


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing, too
        return False


def _devices(name: str, platform: str, **options: Any) -> tuple[jax.Device, ...]:
    topology = "h100" if platform == "cuda" else name
    try:
        return tuple(topologies.get_topology_desc(topology, platform, **options).devices)
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        raise UserError(
            f"Target {name} is refused by its compiler ({first_sentence(error)}); choose {CHOICES}."
        ) from error


def _prepare_process() -> None:
    """Set the variables that the compilers read once in a process, when they start.

    JAX keeps to the CPU, so that a driver or an accelerator of this machine is left alone. `libtpu`
    normally asks the metadata server of Google's cloud which machine it is on, and refuses to start
    while another process uses it. The variables answer the question and allow the other process.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")


@functools.cache
def _schedule_directory() -> pathlib.Path:
    """Directory where this process's TPU compiler writes its schedules; removed at exit."""
    directory = tempfile.mkdtemp(prefix="ranet_jax_schedules_")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    arguments = (
        os.environ.get("LIBTPU_INIT_ARGS", ""),
        f"--xla_jf_dump_to={directory}",
        "--xla_jf_dump_llo_pass_label_regex=^final_bundles",
    )
    os.environ["LIBTPU_INIT_ARGS"] = " ".join(arguments).strip()
    return pathlib.Path(directory)
