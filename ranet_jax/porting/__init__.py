"""PyTorch state dicts in and out."""

from ranet_jax.porting.carry import Ported, port, port_state_dict
from ranet_jax.porting.files import read_state_dict, write_state_dict
from ranet_jax.porting.store import reverse, write_ported

__all__ = [
    "Ported",
    "port",
    "port_state_dict",
    "read_state_dict",
    "reverse",
    "write_ported",
    "write_state_dict",
]
