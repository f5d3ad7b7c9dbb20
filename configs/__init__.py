"""Experiments, one file each; installs as the package `ranet_configs`."""
