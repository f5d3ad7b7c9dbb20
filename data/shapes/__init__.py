"""Procedural scenes with categories that only regional context tells apart."""
