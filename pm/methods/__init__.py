"""Ways to put a person into a picture, one file each; see `base`."""
