"""Cityscapes in its nineteen evaluated categories, read from the official archives."""
