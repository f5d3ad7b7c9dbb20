#!/usr/bin/env bash
# sbatch launch/slurm.sh CONFIG WORKDIR: one process per GPU.
#SBATCH --job-name=ranet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM two minutes before the limit: training saves its step and exits with status 143.
#SBATCH --signal=TERM@120
set -uo pipefail
config=${1:?config file} workdir=${2:?working directory on a shared file system}
# When a process is lost, the others have two minutes to report it and to end by themselves.
srun --kill-on-bad-exit=0 --wait=120 \
    .venv/bin/ranet train --config "$config" --workdir "$workdir" --distributed
status=$?
# srun returns the largest status of all processes. 75: some of them lost another one; 137: one was
# killed; 143: the time was over, or the job was preempted. The requeued job resumes from the last
# checkpoint.
case $status in
    75 | 137 | 143)
        if [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
            scontrol requeue "$SLURM_JOB_ID"
        fi
        ;;
esac
exit "$status"
