"""The models that metrics measure with: their networks, where their weights are, and what they make of pictures."""
