"""Pre-training of the toon base: probe, VAE, CLIP, then U-Net with the second text encoder."""
