#!/usr/bin/env bash
# launch/local_processes.sh CONFIG WORKDIR [OVERRIDE...]: two processes of one CPU device each.
set -euo pipefail
config=${1:?config file} workdir=${2:?working directory}
shift 2
export JAX_PLATFORMS=cpu
for process in 0 1; do
    .venv/bin/ranet train --config "$config" --workdir "$workdir" --distributed \
        --coordinator localhost:12355 --num-processes 2 --process-id "$process" "$@" &
done
wait -n && wait
