"""The HTTP service: an OpenAI-shaped images API on Ray Serve."""
