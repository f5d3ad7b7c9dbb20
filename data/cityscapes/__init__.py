"""Cityscapes in nineteen categories, with its table of label ids."""
