#!/usr/bin/env bash
# Run on every host of a Cloud TPU slice whose VMs have this repository in ~/ranet_jax, with an
# environment made by
#   python3 -m venv .venv && .venv/bin/pip install -e '.[data]' 'jax[tpu]'
# The training continues if the connection to it is lost, and is restarted if a host is lost:
#   launch/tpu_pod.sh start TPU_NAME ZONE CONFIG WORKDIR    # WORKDIR on a shared file system
#   launch/tpu_pod.sh log TPU_NAME ZONE                     # follow the first host; Ctrl-C leaves it
#   launch/tpu_pod.sh stop TPU_NAME ZONE                    # save a step and end
set -euo pipefail
action=${1:?start, log or stop} tpu=${2:?TPU name} zone=${3:?zone}

on_hosts() { # on_hosts WORKERS COMMAND
    gcloud compute tpus tpu-vm ssh "$tpu" --zone "$zone" --worker="$1" --command "cd ranet_jax && $2"
}

case $action in
    start)
        config=${4:?config file} workdir=${5:?shared directory}
        train=$(printf '%q ' .venv/bin/ranet train --config "$config" --workdir "$workdir" --distributed)
        # The lock is held as long as the training runs, so that a second one cannot begin.
        on_hosts all "if flock -n train.lock true; then
            nohup flock -n train.lock bash launch/restart.sh $train >> train.log 2>&1 < /dev/null &
        else
            echo 'A training is under way; launch/tpu_pod.sh stop ends it.' >&2; exit 1
        fi"
        ;;
    log) on_hosts 0 "tail -n 50 -F train.log" ;;
    stop) on_hosts all "pkill -TERM -f '^bash launch/restart[.]sh '" ;;
    *)
        echo "launch/tpu_pod.sh: $action is not start, log or stop." >&2
        exit 1
        ;;
esac
