"""The command `ranet`."""

from ranet_jax.cli.main import main

__all__ = ["main"]
