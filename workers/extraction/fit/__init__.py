"""Whether model and probe fit: what a refused input should have been, and in which range."""
