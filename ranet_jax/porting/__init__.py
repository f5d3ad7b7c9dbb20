"""PyTorch state dicts in and out."""

from ranet_jax.porting.coverage import Misfit
from ranet_jax.porting.descriptions import Description
from ranet_jax.porting.directories import is_backbone, reverse, write_ported
from ranet_jax.porting.files import (
    Weights,
    open_state_dict,
    open_weights,
    read_state_dict,
    write_state_dict,
)
from ranet_jax.porting.port import Ported, port, port_state_dict

__all__ = [
    "Description",
    "Misfit",
    "Ported",
    "Weights",
    "is_backbone",
    "open_state_dict",
    "open_weights",
    "port",
    "port_state_dict",
    "read_state_dict",
    "reverse",
    "write_ported",
    "write_state_dict",
]
