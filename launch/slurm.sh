#!/usr/bin/env bash
# sbatch launch/slurm.sh CONFIG WORKDIR: one process a GPU.
#SBATCH --job-name=ranet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
# SIGTERM two minutes before the limit: training saves its step and exits with status 143.
#SBATCH --signal=TERM@120
set -uo pipefail
config=${1:?config file} workdir=${2:?working directory on a shared file system}
srun .venv/bin/ranet train --config "$config" --workdir "$workdir" --distributed
status=$?
if [ "$status" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
