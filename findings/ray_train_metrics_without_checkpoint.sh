#!/usr/bin/env bash
# Ray 2.60.0: metrics that a training function reports without a checkpoint are not in the result.
#
# The documentation of `Result.metrics` says "the latest set of metrics reported by the training
# function via ray.train.report", and the training function below reports some, successfully. One
# would expect them in `trainer.fit().metrics`. That is None: metrics come back only together with a
# checkpoint. A program that keeps its checkpoints by itself has to use what the training function
# returns, which is `Result.return_value`.
#
# Fails if the reported metrics are in the result, or the returned value is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "ray[train]==2.60.0"
cat > "$folder/report.py" <<'PYTHON'
import sys

import ray
from ray.train import RunConfig, ScalingConfig, report
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


def train():
    report({"status": 7})
    return 7


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
result = DataParallelTrainer(
    train,
    scaling_config=ScalingConfig(num_workers=1),
    run_config=RunConfig(storage_path=sys.argv[1]),
).fit()
print("metrics:", result.metrics, "returned:", result.return_value)
PYTHON
told=$(HOME="$folder" "$folder/venv/bin/python" "$folder/report.py" "$folder/runs" 2> "$folder/log" | grep metrics:)
echo "$told"
[ "$told" = "metrics: None returned: 7" ]
