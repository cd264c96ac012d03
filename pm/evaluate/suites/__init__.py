"""What is asked of whom, one file each; see `base`."""
