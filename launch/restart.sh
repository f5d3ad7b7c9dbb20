#!/usr/bin/env bash
# launch/restart.sh COMMAND...: run a training, and run it again whenever processes are lost.
# It resumes from its last checkpoint. It is restarted after exit status 75 (another process was
# lost) and 137 (this process was killed, as the kernel does when memory runs out). Any other status
# ends it, including 143 after SIGTERM. RESTARTS (100) is the largest number of restarts,
# RESTART_WAIT (10) the seconds to wait before each of them.
set -uo pipefail
: "${1:?"usage: launch/restart.sh COMMAND..."}"
restarts=${RESTARTS:-100}
child='' stopping=''
trap 'stopping=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
for ((run = 0; ; run++)); do
    "$@" &
    child=$!
    [ -z "$stopping" ] || kill -TERM "$child"  # the signal came before the child existed
    wait "$child"
    status=$?
    # A signal ends `wait` before the training ends.
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        status=$?
    done
    child=''
    case $status in
        75 | 137) ;;
        *) exit "$status" ;;
    esac
    if [ -n "$stopping" ] || [ "$run" -ge "$restarts" ]; then
        exit "$status"
    fi
    echo "launch/restart.sh: exit status $status; restart $((run + 1)) of at most $restarts." >&2
    sleep "${RESTART_WAIT:-10}"
    [ -z "$stopping" ] || exit 143
done
