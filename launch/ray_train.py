"""Train on a Ray cluster that loses hosts and gets them back, with Ray Train's JAX trainer.

    python launch/ray_train.py --workers 3 4 --gpus 8 -- --config CONFIG --workdir SHARED_DIR

runs `ranet train` with the options after `--`, in one process per worker. When a worker is lost,
Ray restarts the training with the workers that are left, at least the first number of `--workers`;
when the cluster has room again, it restarts with more, at most the second number. Each time,
training resumes from the last checkpoint.
"""

import argparse
import os
import socket
import subprocess
import sys

import ray
from ray.train import (
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    get_context,
)
from ray.train.collective import broadcast_from_rank_zero
from ray.train.v2.jax import JaxConfig, JaxTrainer

from ranet_jax.cli.supervise import VARIABLE

# Statuses of errors that a restart does not fix, such as one in the config or the command line.
FAILED = (1, 2)


def train(options: list[str]) -> int:
    """Run one process of the training, on a worker, and return its exit status.

    Raises:
      RuntimeError: the training has to be restarted, for example because a process was lost.
    """
    context = get_context()
    processes = {
        "coordinator": broadcast_from_rank_zero(_free_address()),
        "num-processes": context.get_world_size(),
        "process-id": context.get_world_rank(),
    }
    told = [f"--{name}={value}" for name, value in processes.items()]
    # This worker takes the place of the supervising command: when it ends, so does the process.
    status = subprocess.run(
        [sys.executable, "-m", "ranet_jax", "train", "--distributed", *told, *options],
        env=os.environ | {VARIABLE: str(os.getpid())},
    ).returncode
    if status not in (0, *FAILED):
        raise RuntimeError(f"Process {context.get_world_rank()} ended with exit status {status}.")
    return status


def _free_address() -> str:
    with socket.socket() as free:
        free.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"


def main() -> int:
    """Read the command line, train, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs=2, required=True, metavar=("LEAST", "MOST"))
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of each worker (default: 1)")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of each worker (default: 0)")
    parser.add_argument(
        "--resize-every",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="time between two checks for room for more workers (default: 300)",
    )
    parser.add_argument(
        "--restarts", type=int, default=100, help="maximum number of restarts (default: 100)"
    )
    parser.add_argument("options", nargs="+", help="options of `ranet train`, after --")
    arguments = parser.parse_args()
    least, most = arguments.workers
    if not 1 <= least <= most:
        parser.error(f"--workers is {least} {most}; give at least 1, and the larger number last.")
    trainer = JaxTrainer(
        train,
        train_loop_config=arguments.options,
        # The processes connect in `ranet train`; Ray must not connect them before.
        jax_config=JaxConfig(),
        scaling_config=ScalingConfig(
            num_workers=(least, most),
            use_gpu=arguments.gpus > 0,
            resources_per_worker={"CPU": arguments.cpus, "GPU": arguments.gpus},
            elastic_resize_monitor_interval_s=arguments.resize_every,
        ),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=arguments.restarts)),
    )
    try:
        return int(trainer.fit().return_value)
    except TrainingFailedError:
        sys.exit(
            "ray_train: Ray has given up, for the reason given above; run the same command again"
            " to resume from the last checkpoint, or allow more restarts with --restarts."
        )


if __name__ == "__main__":
    sys.exit(main())
