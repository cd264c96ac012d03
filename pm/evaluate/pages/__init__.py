"""HTML pages of an evaluation that need nothing but a browser."""
