"""Scores of segmentations and of regions."""
