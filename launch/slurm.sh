#!/usr/bin/env bash
# sbatch launch/slurm.sh CONFIG WORKDIR
#SBATCH --job-name=ranet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
# SIGTERM two minutes before the limit: training saves its step, and the job goes back in line.
#SBATCH --signal=TERM@120
set -euo pipefail
config=${1:?config file} workdir=${2:?working directory on a shared file system}
srun --kill-on-bad-exit=1 \
    .venv/bin/ranet train --config "$config" --workdir "$workdir" --distributed
