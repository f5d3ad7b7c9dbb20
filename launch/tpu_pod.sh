#!/usr/bin/env bash
# launch/tpu_pod.sh TPU_NAME ZONE CONFIG WORKDIR: run on every host of a Cloud TPU slice whose
# VMs have this repository in ~/ranet_jax, with an environment made by
#   python3 -m venv .venv && .venv/bin/pip install -e '.[data]' 'jax[tpu]'
set -euo pipefail
tpu=${1:?TPU name} zone=${2:?zone} config=${3:?config file} workdir=${4:?shared directory}
gcloud compute tpus tpu-vm ssh "$tpu" --zone "$zone" --worker=all --command \
    "cd ranet_jax && .venv/bin/ranet train --config '$config' --workdir '$workdir' --distributed"
