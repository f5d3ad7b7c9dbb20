"""PyTorch state dicts in and out."""

from ranet_jax.porting.coverage import Misfit
from ranet_jax.porting.descriptions import Description, read_description
from ranet_jax.porting.directories import reverse, write_ported
from ranet_jax.porting.files import open_state_dict, read_state_dict, write_state_dict
from ranet_jax.porting.port import Ported, port, port_state_dict

__all__ = [
    "Description",
    "Misfit",
    "Ported",
    "open_state_dict",
    "port",
    "port_state_dict",
    "read_description",
    "read_state_dict",
    "reverse",
    "write_ported",
    "write_state_dict",
]
