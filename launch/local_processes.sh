#!/usr/bin/env bash
# launch/local_processes.sh CONFIG WORKDIR [OVERRIDE...]: two processes with one CPU device each.
set -uo pipefail
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
# When one of them fails, the other ends by itself.
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "$status"
