#!/usr/bin/env bash
# launch/local_processes.sh CONFIG WORKDIR [OVERRIDE...]: two processes of one CPU device each.
set -euo pipefail
config=${1:?config file} workdir=${2:?working directory}
shift 2
export JAX_PLATFORMS=cpu
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT INT TERM
for process in 0 1; do
    .venv/bin/ranet train --config "$config" --workdir "$workdir" --distributed \
        --coordinator localhost:12355 --num-processes 2 --process-id "$process" "$@" &
    pids+=($!)
done
# The first to fail ends the script, and with it the other.
for _ in "${pids[@]}"; do wait -n; done
