"""Procedural scenes whose categories only regional context tells apart."""
