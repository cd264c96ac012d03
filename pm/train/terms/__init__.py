"""Terms beside the diffusion loss, one file each; see `base`."""
