"""Working directories, checkpoints of training steps, and exported models."""

from ranet_jax.checkpoints.manifests import MANIFEST
from ranet_jax.checkpoints.variables import (
    check_same_arrays,
    check_workdir,
    export,
    fingerprint,
    from_first_host,
    has_checkpoint,
    load_variables,
    open_manager,
    prepare_workdir,
    read_variables,
    restore_latest,
    save,
    write_variables,
)
from ranet_jax.checkpoints.workdirs import describe, workdir_of

__all__ = [
    "MANIFEST",
    "check_same_arrays",
    "check_workdir",
    "describe",
    "export",
    "fingerprint",
    "from_first_host",
    "has_checkpoint",
    "load_variables",
    "open_manager",
    "prepare_workdir",
    "read_variables",
    "restore_latest",
    "save",
    "workdir_of",
    "write_variables",
]
