"""A training reports what it runs on, and refuses a CPU where there should be more."""

import pytest

from helpers import training
from ranet_jax.errors import UserError
from ranet_jax.training.devices import check_devices, describe_devices


@pytest.mark.parametrize(
    "name, value, kind",
    [
        ("CUDA_VISIBLE_DEVICES", "0", "GPU"),
        ("NVIDIA_VISIBLE_DEVICES", "all", "GPU"),
        ("SLURM_GPUS_ON_NODE", "8", "GPU"),
        ("SLURM_GPUS", "a100:2", "GPU"),
        ("TPU_WORKER_ID", "0", "TPU"),
    ],
)
def test_a_cpu_is_refused_in_a_job_that_was_given_more(name, value, kind):
    with pytest.raises(UserError, match=f"though {name}={value} gives this job {kind}s; install"):
        check_devices({"HOME": "/root", name: value})
    check_devices({name: value, "JAX_PLATFORMS": "cpu"})


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"CUDA_VISIBLE_DEVICES": ""},
        {"CUDA_VISIBLE_DEVICES": "-1"},
        {"NVIDIA_VISIBLE_DEVICES": "void"},
        {"SLURM_GPUS_ON_NODE": "0"},
        {"SLURM_JOB_ID": "7", "TPU_NAME": ""},
    ],
)
def test_a_cpu_is_taken_where_nothing_else_was_given(environment):
    check_devices(environment)


def test_the_first_line_names_devices_processes_precision_and_batch():
    config = training.tiny_config()
    config.model.dtype = "bfloat16"
    line = describe_devices(config)
    assert line == "training on 8 x cpu of 1 process, bfloat16, 8 images a step"
