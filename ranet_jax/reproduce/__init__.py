"""The tables of the paper's Section 5, trained and measured again."""

from ranet_jax.reproduce.runs import base_config, reproduce
from ranet_jax.reproduce.tables import TABLES

__all__ = ["TABLES", "base_config", "reproduce"]
