"""One file for each metric; see `base`."""
