"""Fit a config to the user's own data set, by measurements and rules."""
