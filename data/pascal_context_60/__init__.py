"""PASCAL Context in 59 categories and the background."""
