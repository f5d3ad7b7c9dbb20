"""Trained models in the form of the Hugging Face hub."""

from ranet_jax.hub.pretrained import from_pretrained, push_to_hub, save_pretrained

__all__ = ["from_pretrained", "push_to_hub", "save_pretrained"]
