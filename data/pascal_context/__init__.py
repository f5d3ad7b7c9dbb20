"""PASCAL Context in 59 categories, the background ignored."""
