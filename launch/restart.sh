#!/usr/bin/env bash
# launch/restart.sh COMMAND...: run a training, and run it again while it loses other processes.
# It goes on from its last checkpoint. Exit status 75: another process was lost; 137: this one was
# killed, as the kernel does when memory runs out. With any other status it ends, 143 after SIGTERM
# included. RESTARTS (100) is how often it begins anew, RESTART_WAIT (10) the seconds before that.
set -uo pipefail
: "${1:?"usage: launch/restart.sh COMMAND..."}"
restarts=${RESTARTS:-100}
child='' stopping=''
trap 'stopping=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
for ((run = 0; ; run++)); do
    "$@" &
    child=$!
    [ -z "$stopping" ] || kill -TERM "$child"  # it came before there was a child to tell
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
