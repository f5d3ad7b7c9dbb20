"""TFDS builders, one folder a data set; installs as the package `ranet_data`."""
