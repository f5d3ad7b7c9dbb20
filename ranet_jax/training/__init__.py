"""Training of a segmenter, from its config to a working directory."""
