"""Hours of trouble: killed workers, storage that fails, odd requests; what must come out is what always comes out."""
