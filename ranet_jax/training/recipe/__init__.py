"""Training on a data set of one's own: what a config is fitted to, and by which rules."""
