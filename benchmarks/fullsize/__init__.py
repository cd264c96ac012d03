"""SDXL and CLIP ViT-L/14 as they are published, or at a tenth of their width: what the large benchmarks share."""
